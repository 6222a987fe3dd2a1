"""A small convolutional network learns handwritten digits.

conv 30 5x5 - relu - max_pool 2 - dense 100 - relu - dense 10, Adam, batches of 100, 20 epochs: the
SimpleConvNet of Saito's "Deep Learning from Scratch" (2016), chapter 7, which reaches 98.96% on
MNIST with a rate of 0.001 and initial weights of deviation 0.01. Here He's deviation is used, and
the rate falls from 0.001 along a cosine, so that the last epochs settle. The filters are
drawn before and after training.

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
    train, chosen.epochs = (train[0][:1000], train[1][:1000]), 25
shape = train[0].shape[1:]
kernel = min(5, shape[0] // 2)  # the 8x8 digits take a smaller window
net = pn.simple_convnet(kernel=kernel)
print(pn.summary(net, shape))

optimizer = pn.adam(pn.schedules.cosine(1e-3, chosen.epochs * (len(train[0]) // 100)))
trainable = pn.supervised(net, shape, optimizer, pn.softmax_cross_entropy, batch_size=100)
key = jax.random.key(chosen.seed)
before = trainable.init(key).params
started = time.perf_counter()
state, history = pn.fit(trainable, (train, test), chosen.epochs, key)
seconds = time.perf_counter() - started

accuracy = common.report(chosen, "e10", "SimpleConvNet", history, seconds)
wrong = common.mistakes(chosen.out / "e10_mistakes.png", net, state.params, test)
print(f"{wrong} of {len(test[1])} wrong")
for name, params in (("before", before), ("after", state.params)):
    kernels = np.asarray(params.weights["0"]["w"])
    pn.plots.filters(chosen.out / f"e10_filters_{name}.png", kernels, title=f"{name} training")
assert accuracy > 0.85, "the network did not learn"
