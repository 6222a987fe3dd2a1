"""A small convolutional network learns handwritten digits.

conv 30 5x5 - relu - max_pool 2 - dense 100 - relu - dense 10, Adam at 0.001, batches of 100, 20
epochs: the SimpleConvNet of Saito's "Deep Learning from Scratch" (2016), chapter 7, which reaches
98.96% on MNIST. Convolution turns an image into columns, one for each window, and a filter into a
product with them; what the filters look like before and after training is drawn.

    python examples/e10_simple_convnet.py --data mnist --data-dir DIR
"""

import time

import common
import jax
import numpy as np

import purenet as pn

chosen = common.options(__doc__, epochs=20)
train, test = common.images(chosen)
if chosen.quick:
    train, chosen.epochs = (train[0][:1000], train[1][:1000]), 5
shape = train[0].shape[1:]
net = pn.simple_convnet(kernel=min(5, shape[0] // 2))  # the 8x8 digits take a smaller window
print(pn.summary(net, shape))

trainable = pn.supervised(net, shape, pn.adam(1e-3), pn.softmax_cross_entropy, batch_size=100)
key = jax.random.key(chosen.seed)
before = trainable.init(key).params
started = time.perf_counter()
state, history = pn.fit(trainable, (train, test), chosen.epochs, key)
seconds = time.perf_counter() - started

accuracy = history["validation"]["accuracy"]
wrong = common.mistakes(chosen.out / "e10_mistakes.png", net, state.params, test)
print(f"{'epoch':>5}  {'train':>7}  {'test':>7}")
for epoch in np.unique(np.linspace(0, chosen.epochs - 1, 10).astype(int)):
    print(f"{epoch + 1:>5}  {history['train']['accuracy'][epoch]:>7.2%}  {accuracy[epoch]:>7.2%}")
print(f"test accuracy {accuracy[-1]:.2%}, {wrong} of {len(test[1])} wrong; {seconds:.0f} s")

pn.plots.curves(
    chosen.out / "e10_curves.png",
    {"train": history["train"]["accuracy"], "test": accuracy},
    title="SimpleConvNet", y_label="accuracy",
)  # fmt: skip
for name, params in (("before", before), ("after", state.params)):
    kernels = np.asarray(params.weights["0"]["w"])
    pn.plots.filters(chosen.out / f"e10_filters_{name}.png", kernels, title=f"{name} training")
assert accuracy[-1] > 0.85, "the network did not learn"
