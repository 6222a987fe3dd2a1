"""Sample arguments for every operation of `purenet.ops`, away from kinks and ties."""

from typing import Any, NamedTuple

import jax
import numpy as np

from purenet.nn import register


class Case(NamedTuple):
    """The arrays of an operation, the plain values after them, and the nondifferentiable positions.

    >>> Case((np.ones(2),)).static
    ()
    """

    args: tuple[Any, ...]
    static: tuple = ()
    nondifferentiable: tuple[int, ...] = ()


def _declared(seed) -> dict[str, list[Case]]:
    """The cases that are declared beside the operations: see `register.examples`."""

    def array(rng, of):  # a number unchanged; for a shape, entries away from 0
        if not isinstance(of, tuple):
            return np.array(of)
        return rng.choice([-1, 1], of) * rng.uniform(0.3, 1.5, of)

    def case(name, args, static):  # the same, whatever other operations there are
        rng = np.random.default_rng([seed, *name.encode()])
        return Case(tuple(array(rng, of) for of in args), static)

    return {name: [case(name, *declared)] for name, declared in register.examples().items()}


def _dropout(rng) -> dict[str, list[Case]]:
    """Its mask jumps when the rate changes."""
    drawn = lambda: (
        rng.choice([-1, 1], (5, 6)) * rng.uniform(0.3, 1.5, (5, 6)),
        rng.uniform(0.3, 0.5),
        jax.random.key(rng.integers(2**31)),
    )
    return {
        "drop": [Case(drawn(), nondifferentiable=(1,))],
        "drop_padded": [Case((*drawn(), 4, 3), nondifferentiable=(1,))],
    }


def _convolutions(away) -> list[Case]:
    """Every method, then groups and dilation."""
    grouped = (("columns", (2, 4), 2), ("lax", (2, 4), 2), ("depthwise", (1, 3), 3))
    return [
        *(
            Case((away(2, 5, 4, 2), away(3, 2, 2, 3), away(3)), (2, (1, 0), method))
            for method in ("columns", "direct", "lax")
        ),
        *(
            Case((away(2, 5, 4, 2), away(3, 3, 2, 3), away(3)), (1, (1, 0), method))
            for method in ("blocked", "winograd")
        ),
        *(
            Case((away(1, 5, 5, c * k), away(2, 2, c, f), away(f)), (1, 1, method, k, 2))
            for method, (c, f), k in grouped
        ),
    ]


def cases(seed: int) -> dict[str, list[Case]]:
    """The cases of every operation, by its name in `purenet.ops`.

    >>> [case.args[1].shape for case in cases(0)["affine"]]
    [(3, 4)]
    """
    rng = np.random.default_rng(seed)

    def between(low, high, *shape):
        return rng.uniform(low, high, shape)

    def away(*shape):  # from 0, by more than any step of the differences
        return rng.choice([-1, 1], shape) * between(0.3, 1.5, *shape)

    def distinct(*shape):  # no two entries closer than 0.1, so that no step changes the order
        n = int(np.prod(shape))
        return 0.1 * (rng.permutation(n) - n / 2).reshape(shape)

    eps = between(0.2, 0.4)
    classes = rng.integers(0, 3, 4)
    probabilities = between(0.1, 1, 4, 3)
    elementwise = ("relu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax")
    pools = (((2, 4, 6, 2), (2, None, 0)), ((1, 5, 6, 2), (3, 2, 1)))
    return {
        **{name: [Case((away(4, 6),))] for name in elementwise},
        "leaky_relu": [Case((away(4, 6), between(0.1, 0.3)))],
        "elu": [Case((away(4, 6), between(0.5, 1.5)))],
        "affine": [Case((away(5, 3), away(3, 4), away(4)))],
        "convolve": _convolutions(away),
        "im2col": [Case((away(2, 4, 3, 2),), ((2, 3), (1, 1), (1, 0)))],
        "col2im": [Case((away(1, 2, 3, 8),), ((1, 4, 4, 2), 2, (2, 1), 0))],
        "pool_max": [Case((distinct(*shape),), window) for shape, window in pools],
        "pool_average": [Case((away(*shape),), window) for shape, window in pools],
        "global_avg_pool": [Case((away(2, 3, 2, 3),))],
        "flatten": [Case((away(2, 3, 2, 2),))],
        "attend": [Case((*away(3, 2, 5, 2, 3), rng.random((2, 5)) < 0.7), (True, 2))],
        "look_up": [Case((away(4, 3), np.array([[1, 1, 3], [0, 1, 3]])))],
        **_dropout(np.random.default_rng(seed)),
        "local_response_normalise": [
            Case((0.5 * away(2, 3, 7), between(1.5, 2.5), between(0.1, 0.2), between(0.5, 1)), (5,))
        ],
        "batch_normalise": [
            Case((away(12, 3), away(3), away(3), eps)),
            Case((away(3, 2, 2, 3), away(3), away(3), eps)),
        ],
        "normalise": [Case((away(2, 2, 2, 3), away(3), between(0.5, 1.5, 3), *away(2, 3), eps))],
        "layer_normalise": [Case((away(2, 2, 8), away(8), away(8), eps))],
        **_declared(seed),
        "softmax_cross_entropy": [
            Case((away(4, 3), labels, between(0.05, 0.15))) for labels in (classes, probabilities)
        ],
        "mean_squared_error": [Case((away(4, 3), away(4, 3)))],
        "half_sum_of_squares": [Case((away(4, 3),))],
        "sum_of_magnitudes": [Case((away(4, 3),))],
    }
