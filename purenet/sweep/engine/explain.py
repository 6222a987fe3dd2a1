"""Notes on an error of the trial function: what may have caused it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from purenet.core.types import PyTree
from purenet.core.validate import is_number
from purenet.sweep.engine.describe import abstract, check, look
from purenet.sweep.engine.program import Program
from purenet.sweep.space.distributions import is_leaf
from purenet.sweep.space.space import Space
from purenet.sweep.space.structure import Traced


@contextlib.contextmanager
def explained(
    program: Program, space: Space, numbers: tuple, data: tuple[PyTree, PyTree]
) -> Iterator[None]:
    """Add notes to an error of `describe`: the hyperparameters that cause it, ranges written as
    pairs, and data without labels."""
    try:
        yield
    except Exception as error:
        notes = (_of_traced_numbers, _of_pairs, _of_bare_arrays)
        for note in notes:
            for text in note(program, space, numbers, data):
                error.add_note(f"sweep: {text}")
        raise


def _of_traced_numbers(program, space, numbers, data) -> Iterator[str]:
    """The hyperparameters that cause the error: it disappears if they are not traced."""
    pairs = zip(space.names, program.training.static, strict=True)
    names = [name for name, value in pairs if isinstance(value, Traced)]
    every = range(len(names))
    if not names or not _works(program, numbers, data, ()):
        return
    guilty = [i for i in every if not _works(program, numbers, data, (i,))] or every
    kinds = " and ".join(f"{names[i]!r}" for i in guilty)
    yield (
        f"the trial function fails because {kinds} of `hyper` "
        f"{'is' if len(guilty) == 1 else 'are'} traced, so that one program serves all "
        "trials: use jnp.where instead of `if`, jax.numpy instead of NumPy, and no float() or "
        "int(). For a value that must be known beforehand, such as a depth or a width, use a "
        "choice of integers or strings: sweep.choice([1, 2, 3])."
    )


def _works(program, numbers, data, traced: tuple[int, ...]) -> bool:
    """Whether the trial function works with these numbers traced and all others concrete."""

    def attempt(some, key, arrays):
        given = dict(zip(traced, some, strict=True))
        mixed = tuple(given.get(i, number) for i, number in enumerate(numbers))
        check(program, mixed, data)
        return look(program, mixed, key, arrays)

    try:
        some = [numbers[i] for i in traced]
        jax.eval_shape(attempt, some, jax.random.key(0), abstract(data))
    except Exception:
        return False
    return True


def _of_pairs(program, space, numbers, data) -> Iterator[str]:
    ends = lambda value: is_leaf(value) or _is_pair(value)
    for path, value in jax.tree_util.tree_flatten_with_path(space.tree, is_leaf=ends)[0]:
        if _is_pair(value):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            yield (
                f"{name!r} is the pair {value}, which is two constants; for a range, use "
                f"sweep.uniform{tuple(value)} or sweep.loguniform{tuple(value)}."
            )


def _is_pair(value: Any) -> bool:
    """Whether these are two numbers in ascending order."""
    pair = type(value) in (tuple, list) and len(value) == 2 and all(map(is_number, value))
    return pair and value[0] < value[1]


def _of_bare_arrays(program, space, numbers, data) -> Iterator[str]:
    if jax.tree_util.all_leaves(data):
        shapes = " and ".join(str(np.shape(part)) for part in data)
        yield (
            f"data is a pair of arrays, of shapes {shapes}: the first is used for training, the "
            "second for validation. For examples x and labels t, pass "
            "((x, t), (x_validation, t_validation)), as returned by "
            "data.split(key, (x, t), validation=0.2)."
        )
