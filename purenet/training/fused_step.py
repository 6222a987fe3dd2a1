"""A training step of a multi-layer perceptron as one Pallas kernel, for GPUs and TPUs."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.types import Array, Number

ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {  # y(x), and g · y' from y
    "relu": (lambda x: jnp.maximum(x, 0), lambda y, g: jnp.where(y > 0, g, 0)),
    "tanh": (jnp.tanh, lambda y, g: g * (1 - y * y)),
}


class Tiles(NamedTuple):
    """How a kernel takes its arrays: whole, or in tiles whose sides are powers of two.

    >>> WHOLE.side(100), Tiles(128, 32).side(100)
    (100, 128)
    """

    widest: int | None  # side of a tile of a result; None takes arrays whole
    deepest: int | None  # of a tile of what a product sums over
    sync: Callable[[], Any] = lambda: None  # makes what one thread stored visible to the others

    def side(self, n: int, most: int | None = None) -> int:
        return n if self.widest is None else min(most or self.widest, max(16, _power_of_two(n)))


WHOLE = Tiles(None, None)


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


class _Matrix(NamedTuple):
    """The first `shape` of an array in memory, read and written in tiles."""

    tiles: Tiles
    ref: Any
    shape: tuple[int, int]

    def _at(self, rows, columns):
        """((number, side) of a tile along each axis) -> (its part of the array, what is inside)."""
        (i, high), (j, wide) = rows, columns
        down = (i * high + jnp.arange(high, dtype=jnp.int32))[:, None]
        across = (j * wide + jnp.arange(wide, dtype=jnp.int32))[None]
        return self.ref.at[down, across], (down < self.shape[0]) & (across < self.shape[1])

    def load(self, rows, columns, other=0.0):
        if self.tiles.widest is None:
            return self.ref[: self.shape[0], : self.shape[1]]
        from jax.experimental.pallas import triton

        part, inside = self._at(rows, columns)
        return triton.load(part, mask=inside, other=jnp.asarray(other, self.ref.dtype))

    def store(self, rows, columns, values):
        if self.tiles.widest is None:
            self.ref[: self.shape[0], : self.shape[1]] = values
            return
        from jax.experimental.pallas import triton

        part, inside = self._at(rows, columns)
        triton.store(part, values, mask=inside)


def _each(n: int, side: int, body: Callable, carry: Any = None) -> Any:
    """`carry` after `body((number, side), carry)` of every tile along an axis of n."""
    count = -(-n // side)
    if count == 1:
        return body((0, side), carry)
    return lax.fori_loop(
        jnp.int32(0), jnp.int32(count), lambda i, carry: body((i, side), carry), carry
    )


def _product(tiles: Tiles, out: _Matrix, left: _Matrix, right: _Matrix, sums: tuple, finish):
    """out = finish(left · right), summed over these axes of them; then all may read it."""
    (a, b), (high, wide) = sums, out.shape
    depth = left.shape[a]
    deep, dtype = tiles.side(depth, tiles.deepest), out.ref.dtype

    def load(matrix, axis, outer, inner):
        return matrix.load(*((inner, outer) if axis == 0 else (outer, inner)))

    def tile(rows, columns):
        def add(inner, total):
            parts = load(left, a, rows, inner), load(right, b, columns, inner)
            dims = ((a,), (b,)), ((), ())
            return total + lax.dot_general(*parts, dims, preferred_element_type=dtype)

        total = _each(depth, deep, add, jnp.zeros((rows[1], columns[1]), dtype))
        out.store(rows, columns, finish(total, rows, columns))

    def row(rows, _):
        _each(wide, tiles.side(wide), lambda columns, _: tile(rows, columns))

    _each(high, tiles.side(high), row)
    tiles.sync()


def _softmax_slope(tiles: Tiles, slope: _Matrix, y: _Matrix, t: _Matrix):
    """slope = (softmax(y) - one-hot of t) / n, that of the mean cross-entropy."""
    n, classes = y.shape
    columns = (0, tiles.side(classes, _power_of_two(max(16, classes))))

    def tile(rows, _):
        z = y.load(rows, columns, -jnp.inf)
        e = jnp.exp(z - z.max(axis=1, keepdims=True))
        hit = t.load(rows, (0, 1), -1) == lax.broadcasted_iota(jnp.int32, e.shape, 1)
        p = e / e.sum(axis=1, keepdims=True)
        slope.store(rows, columns, (p - hit.astype(p.dtype)) / n)

    _each(n, tiles.side(n, 16), tile)
    tiles.sync()


def _descend_bias(tiles: Tiles, new: _Matrix, old: _Matrix, slope: _Matrix, rate):
    """new = old - rate · Σₙ slope."""
    n, wide = slope.shape

    def tile(columns, _):
        add = lambda rows, total: total + slope.load(rows, columns).sum(axis=0, keepdims=True)
        total = _each(n, tiles.side(n), add, jnp.zeros((1, columns[1]), new.ref.dtype))
        new.store((0, 1), columns, old.load((0, 1), columns) - rate * total)

    _each(wide, tiles.side(wide), tile)


def _kernel(tiles: Tiles, activation: str, widths: tuple[int, ...], n: int, *refs: Any):
    """One step; `refs` are the arguments, results and scratch of `fused_step`, in this order."""
    matrix = functools.partial(_Matrix, tiles)
    shapes = [shape for i, o in itertools.pairwise(widths) for shape in ((i, o), (1, o))]
    f, back = ACTIVATIONS[activation]
    x, t, rate, penalty, *rest = refs
    rate, penalty = rate[...], penalty[...]
    old = list(map(matrix, rest, shapes))
    new = list(map(matrix, rest[len(shapes) :], shapes))
    y, *hidden, slope, following = rest[2 * len(shapes) :]
    acts = [matrix(a, (n, width)) for a, width in zip((x, *hidden, y), widths, strict=True)]
    last = len(widths) - 2

    for i in range(last + 1):  # forward: x W + b (n, o)

        def finish(total, rows, columns, i=i):
            z = total + old[2 * i + 1].load((0, 1), columns)
            return z if i == last else f(z)

        _product(tiles, acts[i + 1], acts[i], old[2 * i], (1, 0), finish)

    g = matrix(slope, (n, widths[-1]))
    _softmax_slope(tiles, g, acts[-1], matrix(t, (n, 1)))
    for i in range(last, -1, -1):  # backward
        before = matrix(following, (n, widths[i]))
        if i:  # g Wᵀ · f' (n, i), of the weights before the step

            def finish(total, rows, columns, i=i):
                return back(acts[i].load(rows, columns), total)

            _product(tiles, before, g, old[2 * i], (1, 1), finish)

        def descend(total, rows, columns, i=i):  # total is xᵀ g (i, o)
            w = old[2 * i].load(rows, columns)
            return w - rate * (total + penalty * w)

        _product(tiles, new[2 * i], acts[i], g, (0, 0), descend)
        _descend_bias(tiles, new[2 * i + 1], old[2 * i + 1], g, rate)
        slope, following, g = following, slope, before
        tiles.sync()


def fused_step(
    platform: str, activation: str, layers: Sequence[tuple[Array, Array]], x: Array, t: Array,
    rate: Number, penalty: Number, interpret: bool = False,
) -> tuple[list[tuple[jax.Array, jax.Array]], jax.Array]:  # fmt: skip
    """(the layers after a step of gradient descent, the outputs y before it), in one kernel.

        W ← W - rate · (∂L/∂W + penalty · W)    b ← b - rate · ∂L/∂b

    Shapes: layers of W (i, o) and b (o,), x (n, i) and y (n, o) in their dtype, t (n,) integers;
    rate and penalty ().
    L is the mean cross-entropy of softmax(y). `platform` is "cuda", where the kernel takes tiles of
    128 x 128 from memory and leaves the hidden layers there, or "tpu", where the whole network is
    in VMEM. `interpret` runs the kernel as a JAX program, on any device.
    Under `vmap` the trials are the kernel's grid.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), algorithms 6.3 and 6.4.

    >>> layers = [(jnp.ones((2, 3)), jnp.zeros(3))]
    >>> x, t = jnp.ones((4, 2)), jnp.array([0, 0, 1, 2])
    >>> [(w, b)], y = fused_step("tpu", "relu", layers, x, t, 0.3, 0.0, interpret=True)
    >>> y.shape, [round(float(a), 3) for a in b]
    ((4, 3), [0.05, -0.025, -0.025])
    """
    from jax.experimental import pallas
    from jax.experimental.pallas import tpu, triton

    n, widths, dtype = len(x), (x.shape[1], *(len(b) for _, b in layers)), layers[0][0].dtype
    flat = [a for w, b in layers for a in (w, b[None])]
    shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, dtype)
    results = [shape(*a.shape) for a in flat] + [shape(n, widths[-1])]
    scratch = [shape(n, width) for width in (*widths[1:-1], *2 * [max(widths[1:])])]
    one = lambda number: jnp.asarray(number, dtype).reshape(1, 1)
    places: dict[str, Any]
    if platform == "cuda":
        tiles = Tiles(128, 32) if interpret else Tiles(128, 32, triton.debug_barrier)
        places = {"out_shape": [*results, *scratch],
                  "compiler_params": triton.CompilerParams(num_warps=8, num_stages=2)}  # fmt: skip
    else:
        tiles = WHOLE
        places = {"out_shape": results, "compiler_params": tpu.CompilerParams(),
                  "scratch_shapes": [tpu.VMEM(a.shape, a.dtype) for a in scratch]}  # fmt: skip
    found = pallas.pallas_call(
        functools.partial(_kernel, tiles, activation, widths, n),
        input_output_aliases={4 + i: i for i in range(len(flat))},
        interpret=interpret, name="fused_step", **places,
    )(x.astype(dtype), t.astype(jnp.int32)[:, None], one(rate), one(penalty), *flat)  # fmt: skip
    *flat, y = found[: len(flat) + 1]
    return [(w, b[0]) for w, b in zip(flat[::2], flat[1::2], strict=True)], y
