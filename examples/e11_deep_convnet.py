"""A deeper convolutional network comes within a percent of every digit.

Three times conv 3x3 - relu - conv 3x3 - relu - max_pool, with 16, 32 and 64 filters, then dense
50 - relu - dropout 0.5 - dense 10: the DeepConvNet of Saito's "Deep Learning from Scratch" (2016),
chapter 8, which reaches 99.38% on MNIST in 20 epochs of Adam at 0.001. Two things differ: there is
no dropout after the output layer, and the rate falls along a cosine, from 0.002 in 10 epochs.

    python examples/e11_deep_convnet.py --data mnist --data-dir DIR
"""

import time

import common
import jax

import purenet as pn

chosen = common.options(__doc__, epochs=10)
train, test = common.images(chosen)
if chosen.quick:
    train, test, chosen.epochs = (train[0][:500], train[1][:500]), (test[0][:200], test[1][:200]), 8
shape = train[0].shape[1:]
net = pn.deep_convnet()
print(pn.summary(net, shape))

batch = 50 if chosen.quick else 100
steps = chosen.epochs * (len(train[0]) // batch)
optimizer = pn.adam(pn.schedules.cosine(2e-3, steps))
trainable = pn.supervised(net, shape, optimizer, pn.softmax_cross_entropy, batch)
started = time.perf_counter()
state, history = pn.fit(trainable, (train, test), chosen.epochs, jax.random.key(chosen.seed))
seconds = time.perf_counter() - started

accuracy = common.report(chosen, "e11", "DeepConvNet", history, seconds)
wrong = common.mistakes(chosen.out / "e11_mistakes.png", net, state.params, test)
print(f"{wrong} of {len(test[1])} wrong")
assert accuracy > 0.6, "the network did not learn"
