"""The programs of the benchmark, lowered for a device that need not exist."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import purenet as pn
from purenet import sweep
from purenet.sweep.config import SweepConfig
from purenet.sweep.engine.compile import program_arguments, training_program
from purenet.sweep.engine.layout import Layout
from purenet.sweep.space.points import numbers

WIDTHS = (784, 100, 100, 100, 100, 100, 100, 10)
IMAGE = (28, 28, 1)


def e9(hyper):
    return pn.supervised(pn.mlp(), WIDTHS, pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, 100,
                         penalty=pn.l2(hyper["decay"]))  # fmt: skip


def unpenalised(hyper):
    return pn.supervised(pn.mlp(), WIDTHS, pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, 100)


def fused(hyper):
    return pn.fused_mlp(WIDTHS, hyper["rate"], 100, penalty=hyper["decay"])


def simple(hyper):
    net = pn.simple_convnet()
    return pn.supervised(net, IMAGE, pn.adam(hyper["rate"]), pn.softmax_cross_entropy, 100)


def deep(hyper):
    net = pn.deep_convnet()
    return pn.supervised(net, IMAGE, pn.adam(hyper["rate"]), pn.softmax_cross_entropy, 100)


def regularised(hyper):
    net = pn.mlp(batch_norm=True, dropout=0.5)
    return pn.supervised(net, WIDTHS, pn.adam(hyper["rate"]), pn.softmax_cross_entropy, 100)


def scored(y, t):
    """The loss of every position of a sequence."""
    return pn.softmax_cross_entropy(y.reshape(-1, y.shape[-1]), t.reshape(-1))


def sequences(hyper):
    net = pn.transformer(tokens=64, features=64, layers=2, heads=4)
    return pn.supervised(net, (32,), pn.adam(hyper["rate"]), scored, 100, metrics={})


RATE = {"rate": sweep.loguniform(1e-4, 1e-2)}
SPACE = {"rate": sweep.loguniform(1e-6, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}
HYPER = {"rate": 0.01, "decay": 1e-4}


def _examples(n, shape, kind=np.float32, targets=()):
    return np.zeros((n, *shape), kind), np.zeros((n, *targets), np.int32)


def epoch(trial, shape, device, kind=np.float32, targets=()):
    """One epoch of 400 examples."""
    trainable = trial(HYPER)
    there = NamedSharding(Mesh(np.array([device]), ("x",)), P())
    like = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=there)
    state = jax.eval_shape(trainable.init, jax.random.key(0))
    arguments = jax.tree.map(like, (state, _examples(400, shape, kind, targets)))
    return jax.jit(trainable.epoch).lower(*arguments)


def step(trial, device, count):
    """One step of as many trials side by side, each on a minibatch of its own of 100 examples."""
    there = NamedSharding(Mesh(np.array([device]), ("x",)), P())
    like = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=there)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
    states = jax.eval_shape(jax.vmap(trial(HYPER).init), keys)
    arguments = (
        states,
        {name: np.zeros(count, np.float32) for name in HYPER},
        _examples(100, WIDTHS[:1]),
    )
    several = jax.vmap(lambda s, h, data: trial(h).epoch(s, data), in_axes=(0, 0, None))
    return jax.jit(several, donate_argnums=0).lower(*jax.tree.map(like, arguments))


def lanes(trial, space, shape, device, trials, lanes, block):
    """One epoch of one block of a sweep's lanes, with its evaluations: 400 and 100 examples."""
    parts = _examples(400, shape), _examples(100, shape)
    config = SweepConfig(trial, space, parts, trials, 2)
    program = config.programs[0]._replace(layout=Layout((device,), lanes, block))
    program = program.in_cached_blocks()
    one = numbers(config.space, config.start.points, 0)
    _, arguments = program_arguments(program, one, jax.random.key(0), config.data)
    return training_program(program).lower(*arguments)


# name -> the lowered program for a device
PROGRAMS = {
    "mlp, an epoch": lambda d: epoch(e9, WIDTHS[:1], d),
    "mlp with batch_norm, dropout, Adam, an epoch": lambda d: epoch(regularised, WIDTHS[:1], d),
    "SimpleConvNet, an epoch": lambda d: epoch(simple, IMAGE, d),
    "DeepConvNet, an epoch": lambda d: epoch(deep, IMAGE, d),
    "transformer, an epoch": lambda d: epoch(sequences, (32,), d, np.int32, (32,)),
    "E9, 40 lanes": lambda d: lanes(e9, SPACE, WIDTHS[:1], d, 40, 40, 40),
    "E9, 256 lanes": lambda d: lanes(e9, SPACE, WIDTHS[:1], d, 256, 256, 256),
    "E9 without its penalty, 256 lanes": lambda d: lanes(
        unpenalised, RATE, WIDTHS[:1], d, 256, 256, 256
    ),
    "E9, 10,000 trials": lambda d: lanes(e9, SPACE, WIDTHS[:1], d, 10_000, 10_240, 256),
    "E9, a fused step of 256 lanes": lambda d: step(fused, d, 256),
    "SimpleConvNet, 16 lanes": lambda d: lanes(simple, RATE, IMAGE, d, 16, 16, 16),
}
