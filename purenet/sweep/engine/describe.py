"""What is known of a program before it is compiled: that its training fits the data, and shapes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from purenet.core.contracts import checked_state, observed, same_state
from purenet.core.dtypes import is_key
from purenet.core.jit_cache import PROGRAMS
from purenet.core.types import PyTree
from purenet.sweep.engine.folds import Folds, parts_of
from purenet.sweep.engine.layout import as_on_a_device, random_key
from purenet.sweep.engine.monitor import checked_parts
from purenet.sweep.engine.program import Program, plain
from purenet.sweep.engine.training import after_epoch, begun, measured


def describe(program: Program, numbers: tuple, data: PyTree) -> Program:
    """Check a group's training against the data, and find its metrics; nothing is compiled.

    `numbers` are the traced hyperparameters of one trial.
    Raises TypeError or ValueError for a trial function, data or metrics that a sweep cannot use.
    """
    checked = as_on_a_device(program.layout, lambda numbers: check(program, numbers, data))
    # only shapes are needed: without jit, every loop of the training would run for them
    with jax.disable_jit(False):
        jax.eval_shape(checked, numbers)
        leaves, structure = jax.tree.flatten(abstract((numbers, data)))
        # decides the dtypes of a state
        wide = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
        return _described(program, structure, tuple(leaves), wide)


@functools.lru_cache(PROGRAMS)
def _described(program: Program, structure: Any, leaves: tuple, wide: bool) -> Program:
    """The same program, with what is to be known of its states and metrics."""
    del wide  # only tells calls apart
    numbers, data = jax.tree.unflatten(structure, leaves)
    program = program._replace(structure=_shared_structure(program, numbers))
    seen = as_on_a_device(program.layout, functools.partial(look, program))
    state, metrics, packed = jax.eval_shape(seen, numbers, random_key(0), data)
    with jax.transfer_guard_host_to_device("allow"):
        kind = lambda a: str(jax.random.key_impl(jnp.empty((), a.dtype))) if is_key(a) else None
        keys = tuple(map(kind, state))
    return program._replace(
        metrics=tuple(sorted(metrics["validation"])),
        keys=keys,
        leaves=tuple(packed),
    )


def _shared_structure(program: Program, numbers: tuple) -> Any:
    """The structure of a state, if it is the same for all trials; else None: a static part of a
    state, such as an optimizer, may hold the numbers of one."""
    found: list[Any] = []

    def compared(*trials):
        one, other = (
            jax.tree.structure(checked_state("sweep", begun(program.training, False, *trial)))
            for trial in trials
        )
        found.append(one if _equal(one, other) else None)

    trial = numbers, random_key(0)
    jax.eval_shape(as_on_a_device(program.layout, compared), trial, trial)
    return found[-1]


def check(program: Program, numbers: tuple, data: PyTree) -> None:
    """Let the training of a trial with these hyperparameters check the data."""
    trainable = program.trainable(numbers)
    for part in (data.data,) if isinstance(data, Folds) else data:
        trainable.check(part)


def abstract(data: PyTree) -> PyTree:
    """The shapes and dtypes that the data has on a device."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, _canonical(a)), data)


def look(program: Program, numbers: tuple, key: jax.Array, data: PyTree) -> tuple[list, dict, list]:
    """The leaves of an initial state, the metrics after one epoch, and the plain leaves.

    Raises ValueError if an epoch changes the form of the state. No state is returned: JAX compares
    what functions return, and the numbers of a trial in a structure cannot be compared.
    """
    training, shared, parts = program.training, program.shared, parts_of(data, 0)
    state = checked_state("sweep", begun(training, shared, numbers, key))
    # traced, as that of a lane is, even where `init` returns constants
    state = jax.lax.optimization_barrier(state)
    after = after_epoch(training, shared, numbers, state, parts)
    metrics = measured(training, shared, numbers, after, parts)
    metrics = checked_parts(program.monitor, after, metrics)
    after = observed("sweep", program.trainable(numbers), after, metrics["validation"])
    same_state("sweep", *(jax.tree.map(jax.typeof, tree) for tree in (state, after)))
    return jax.tree.leaves(state), metrics, plain(state)


# pieces
def _equal(one, other) -> bool:
    """Whether two structures, each from its own trace, are the same."""
    try:
        return bool(one == other)
    except Exception:  # traced numbers in the structures cannot be compared
        return False


def _canonical(a):
    return jax.dtypes.canonicalize_dtype(a.dtype)
