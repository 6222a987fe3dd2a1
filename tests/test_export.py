"""Everything lowers for every platform: operations, losses, optimizers, epochs and sweeps;
`test_symbolic_batch` has the networks.

Lowering needs neither the device nor its compiler, so this runs anywhere.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_network import LOSSES
from test_ops import CASES, is_shape, one_of_each, pullback

import purenet as pn
from purenet import ops, sweep
from purenet.core.vjp import ops_in
from purenet.sweep.config import SweepConfig
from purenet.sweep.engine.compile import program_arguments
from purenet.sweep.engine.layout import Layout
from purenet.sweep.engine.program import advance_program, start_program

PLATFORMS = ("cpu", "cuda", "tpu", "rocm")
OPTIMIZERS = ("adadelta", "adagrad", "adam", "adamw", "lion", "momentum", "muon", "nadam",
              "nesterov", "radam", "rmsprop", "schedule_free_adamw", "schedule_free_sgd",
              "sgd")  # fmt: skip


def exported(f, *args):
    """The programs of f for all platforms, as text."""
    return jax.export.export(jax.jit(f), platforms=PLATFORMS)(*args).mlir_module()


def differentiated(case):
    """(the arguments that are differentiated, their gradient as a function of them)."""
    args = [np.zeros(a) if is_shape(a) else jnp.asarray(a) for a in case.args]
    floats = [i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.inexact)]

    def op(*values):
        given = dict(zip(floats, values, strict=True))
        return case.op(*(given.get(i, a) for i, a in enumerate(args)), *case.static)

    return [args[i] for i in floats], lambda args: (op(*args), pullback(op, args))


@pytest.mark.parametrize("op", ops_in(ops).values(), ids=lambda op: op.__name__)
def test_an_operation_its_gradient_and_a_batch_of_them(op):
    cases = [differentiated(CASES[name]) for name in one_of_each() if CASES[name].op is op]

    def everything(arguments):
        stack = lambda args: [jnp.stack([a, a]) for a in args]
        return [
            (both(args), jax.vmap(both)(stack(args)))
            for args, (_, both) in zip(arguments, cases, strict=True)
        ]

    assert exported(everything, [args for args, _ in cases])


def test_every_loss_and_every_optimizer():
    weights = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}

    def everything(weights, y, rate):
        moved = {}
        for name in OPTIMIZERS:
            optimizer = getattr(pn, name)(rate)
            updates, state = optimizer.update(weights, optimizer.init(weights), weights)
            moved[name] = pn.apply_updates(weights, updates), state
        return moved, {name: jax.value_and_grad(loss)(y) for name, loss in LOSSES.items()}

    assert exported(everything, weights, jnp.ones((3, 4)), 0.1)


def trial(hyper):
    net = pn.mlp(batch_norm=True, dropout=hyper["rate"])
    adam = pn.adam(hyper["rate"])
    return pn.supervised(net, (3, 4, 2), adam, pn.softmax_cross_entropy, 2, augment=lambda k, x: x)


DATA = (np.ones((5, 3), np.float32), np.zeros(5, np.int32))


def test_an_epoch_and_its_evaluation():
    trainable = trial({"rate": 0.1})
    state = jax.eval_shape(trainable.init, jax.random.key(0))
    run = lambda state, data: (trainable.epoch(state, data), trainable.evaluate(state, data))
    assert exported(run, state, DATA)


@pytest.mark.parametrize("block", [1, 4])
def test_the_programs_of_a_sweep(block):
    space = {"rate": sweep.uniform(0.0, 0.5)}
    config = SweepConfig(trial, space, (DATA, DATA), 4, 2, patience=1, select="best")
    program = config.programs[0]
    program = program._replace(layout=Layout(program.layout.devices[:1], 4, block))
    start, advance = program_arguments(program, (np.float64(0),), jax.random.key(0), config.data)
    for made, arguments in ((start_program, start), (advance_program, advance)):
        assert jax.export.export(made(program), platforms=PLATFORMS)(*arguments).mlir_module()
