"""A two-layer network trained without any derivation: by central differences alone.

784-50-10 (64-50-10 on the digits), sigmoid, weights of deviation 0.01, softmax cross-entropy,
minibatches of 100 drawn at random, rate 1, 100 iterations, central differences with h = 1e-4 over
each of the 39,760 parameters: the two-layer network of Saito's "Deep Learning from Scratch" (2016),
chapter 4, where a loop over the parameters takes 75 minutes. Two copies of the network
see the same minibatches, one trained by differences and one by the hand-written rules, in float64.

The lesson: a gradient says how the loss changes with each parameter, backpropagation finds the
same numbers in one pass, and differences need not be slow if a change stays local.

    python examples/e2_numerical_gradient.py --data mnist --data-dir DIR
"""

import time

import common
import jax
import jax.numpy as jnp
import numpy as np

import purenet as pn
from purenet.gradcheck import numerical_gradient, numerical_gradient_two_layer

jax.config.update("jax_enable_x64", True)  # float32 has too few digits for h = 1e-4
H, RATE, BATCH = 1e-4, 1.0, 100

chosen = common.options(__doc__, iterations=100)
train, test = (
    (jnp.asarray(x, jnp.float64), jnp.asarray(t)) for x, t in common.images(chosen, flatten=True)
)
if chosen.quick:
    train, chosen.iterations = (train[0][:1000], train[1][:1000]), min(chosen.iterations, 20)
net = pn.mlp(activation=pn.sigmoid, weight_init=pn.initializers.normal(0.01))
for_weights, for_batches = jax.random.split(jax.random.key(chosen.seed))
start = net.init(for_weights, (train[0].shape[1], 50, 10)).weights
count = sum(leaf.size for leaf in jax.tree.leaves(start))


def outputs(weights, x):
    return net.apply(pn.Params(weights), x, True, None)[0]


def loss(weights, x, t):
    return pn.softmax_cross_entropy(outputs(weights, x), t)


def descend(weights, grads):
    return jax.tree.map(lambda w, g: w - RATE * g, weights, grads)


def largest_difference(one, other):
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), one, other)))


def timed(f, *args):
    started = time.perf_counter()
    return jax.block_until_ready(f(*args)), time.perf_counter() - started


by_differences = jax.jit(lambda w, x, t: numerical_gradient_two_layer(w, x, t, h=H))
by_hand = jax.jit(jax.grad(loss))
accuracy = jax.jit(lambda w, x, t: pn.accuracy(outputs(w, x), t))
batches = jax.random.randint(for_batches, (chosen.iterations, BATCH), 0, len(train[0]))
first = (start, train[0][batches[0]], train[1][batches[0]])
for gradient in (by_differences, by_hand):
    gradient(*first)  # compiles, so that the times below are those of computing

weights = {"differences": start, "by hand": start}
curves = {f"{part}, {name}": [] for name in weights for part in ("train", "test")}
seconds = {name: [] for name in weights}
worst = 0.0
for rows in batches:
    batch = train[0][rows], train[1][rows]
    reference = by_hand(weights["differences"], *batch)
    for name, gradient in (("differences", by_differences), ("by hand", by_hand)):
        grads, took = timed(gradient, weights[name], *batch)
        if name == "differences":
            worst = max(worst, largest_difference(grads, reference))
        weights[name] = descend(weights[name], grads)
        seconds[name].append(took)
        for part, data in (("train", train), ("test", test)):
            curves[f"{part}, {name}"].append(float(accuracy(weights[name], *data)))

print(f"{count:,} parameters, {chosen.iterations} iterations")
print(f"{'iteration':>9}  " + "  ".join(f"{name:>18}" for name in curves))
for i in np.unique(np.linspace(0, chosen.iterations - 1, 11).astype(int)):
    print(f"{i + 1:>9}  " + "  ".join(f"{values[i]:>18.2%}" for values in curves.values()))
for name, took in seconds.items():
    print(f"{name}: {np.median(took):.5f} s an iteration")
print(f"largest difference between the gradients: {worst:.1e}")
drift = largest_difference(*weights.values())
print(f"largest difference between the weights at the end: {drift:.1e}")
if not chosen.quick:
    # every parameter by two whole evaluations of the network, instead of what it moves alone
    brute = jax.jit(lambda w, x, t: numerical_gradient(lambda w: loss(w, x, t), w, H))
    grads, took = timed(brute.lower(*first).compile(), *first)
    apart = largest_difference(grads, by_differences(*first))
    print(f"without the shortcut: {took:.2f} s an iteration, gradients apart by {apart:.1e}")

panels = [(p, {n: curves[f"{p}, {n}"] for n in weights}) for p in ("train", "test")]
pn.plots.curve_grid(chosen.out / "e2_curves.png", panels, x_label="iteration", dpi=200)
gap = max(
    np.abs(np.subtract(curves[f"{part}, differences"], curves[f"{part}, by hand"])).max()
    for part in ("train", "test")
)
print(
    f"the curves differ by at most {gap:.2%}; test accuracy {curves['test, differences'][-1]:.2%}"
)
assert worst < 1e-8, "a gradient by differences is not the one by hand"
assert gap <= 1e-3, "the curves do not agree within 0.1%"
