"""The only use of JAX's custom derivatives: hand-written reverse rules, and forward mode from them.

An op is `hand_vjp(plain, fwd, bwd)`. This wrapper does what every rule would otherwise repeat: a
cotangent gets the dtype and the shape of its argument (a rule may return a full-sized array for a
scalar `slope`, which is summed); arguments that are not arrays are rejected by name; NumPy arrays
become JAX arrays; inside `shard_map` a cotangent is summed over the mesh axes that it varies over
and its argument does not; on a mesh with explicit axes it is sharded like its argument.
"""

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from purenet.core.tree import check_same_structure
from purenet.core.types import PyTree
from purenet.core.validate import array, check_function, expect, is_integer, require

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class Op(Protocol[P, R]):
    """An operation from `hand_vjp`: a function, and the same without its rule."""

    __name__: str

    @property
    def plain(self) -> Callable[P, R]:
        """The original function, which JAX differentiates by its own rules."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of `plain`, differentiated by the hand-written rule."""


class _Like(NamedTuple):
    """The required form of a cotangent; hashable, so it is passed as structure, not as an array."""

    shape: tuple[int, ...]
    dtype: Any
    varying: frozenset
    sharding: Any


@jax.tree_util.register_static
class _Likes(tuple):
    pass


def hand_vjp(
    plain: Callable[P, R],
    fwd: Callable,
    bwd: Callable,
    static: tuple[int, ...] = (),
    check: Callable | None = None,
) -> Op[P, R]:
    """Give `plain` a hand-written reverse rule.

    fwd(*args) -> (out, residuals); bwd(*static_args, residuals, g) -> one cotangent per array
    argument, None for integers and keys. `static` lists the positions of arguments that are plain
    Python values. check(*args) gets the arguments before JAX does, while plain numbers can still be
    told from traced ones. `.plain` is the original function: the reference that the tests
    differentiate.

    `fwd` must call `plain`, never the op itself: then second derivatives work.
    Raises TypeError for anything but functions; the op raises TypeError for an argument that is not
    an array, a `fwd` that does not return a pair and a `bwd` that does not return a tuple, and
    ValueError if the cotangents do not match the array arguments in number and shape.
    Source: the custom derivative rules of the JAX documentation.

    >>> square = hand_vjp(lambda x: x * x, lambda x: (x * x, x), lambda x, g: (2 * x * g,))
    >>> float(jax.grad(square)(3.0))
    6.0
    """
    check_function("hand_vjp", plain=plain, fwd=fwd, bwd=bwd)
    legal = isinstance(static, tuple) and all(map(is_integer, static))
    such = "a tuple of the positions of plain arguments such as (1, 2)"
    expect(legal, "hand_vjp: static", static, such)
    name = getattr(plain, "__name__", type(plain).__name__).lstrip("_")
    names = list(inspect.signature(plain).parameters)

    def forward(*args):
        answer = fwd(*args)
        pair = isinstance(answer, tuple) and len(answer) == 2
        expect(pair, f"{name}: the return value of fwd", answer, "a pair (out, residuals)")
        out, residuals = answer
        arrays = [a for i, a in enumerate(args) if i not in static]
        return out, (residuals, _Likes(_like(a) for a in arrays))

    rule: Any = jax.custom_vjp(plain, nondiff_argnums=static)
    rule.defvjp(forward, _backward(name, bwd))
    label = lambda i: names[i] if i < len(names) else f"argument {i}"
    unchecked = {label(i) for i in static}

    @functools.wraps(plain)
    def op(*args, **kwargs):
        known = lambda name_of, a: a if name_of in unchecked else array(name, name_of, a)
        args = tuple(known(label(i), a) for i, a in enumerate(args))
        kwargs = {name_of: known(name_of, a) for name_of, a in kwargs.items()}
        if check is not None:
            check(*args, **kwargs)
        return rule(*args, **kwargs)

    made: Any = op
    made.__name__ = made.__qualname__ = name
    made.plain = plain
    return made


def _backward(name: str, bwd: Callable) -> Callable:
    """`bwd` with every cotangent in the form of its argument."""

    def backward(*args):
        *static_args, (residuals, likes), g = args

        def pull(residuals, g):
            cotangents = bwd(*static_args, residuals, g)
            legal = isinstance(cotangents, (tuple, list))
            expect(legal, f"{name}: the return value of bwd", cotangents, "a tuple of cotangents")
            require(
                len(cotangents) == len(likes),
                f"{name}: bwd returned {len(cotangents)} cotangents, but there are {len(likes)} "
                "array arguments; return None for an integer or a key.",
            )
            pairs = zip(cotangents, likes, strict=True)
            return tuple(_match(name, i, *pair) for i, pair in enumerate(pairs))

        if jax.sharding.get_abstract_mesh().explicit_axes:
            # a contraction over a sharded batch has no sharding of its own: let the compiler
            # place the work, and only say where the result belongs
            pull = jax.sharding.auto_axes(pull, out_sharding=tuple(a.sharding for a in likes))
        return pull(residuals, g)

    return backward


def ops_in(module: ModuleType) -> dict[str, Op]:
    """The ops made by `hand_vjp` among the names of a module.

    >>> from purenet import ops
    >>> ops_in(ops)["relu"] is ops.relu
    True
    """
    found = vars(module).items()
    return {name: f for name, f in found if inspect.isfunction(f) and hasattr(f, "plain")}


def jvp(f: Callable, primals: tuple | list, tangents: tuple | list) -> tuple[PyTree, PyTree]:
    """Forward mode from reverse rules: the pullback is linear, so transpose it.

    Returns (f(*primals), its directional derivative), like `jax.jvp`, which rejects functions that
    have a reverse rule only.
    Raises TypeError unless `f` is a function and the two are tuples, and ValueError unless the
    tangents have the structure and the shapes of the primals.
    Source: the transposition of a pullback, as in JAX's `linear_transpose`.

    >>> y, dy = jvp(lambda x: x**2, (3.0,), (1.0,))
    >>> float(y), float(dy)
    (9.0, 6.0)
    """
    check_function("jvp", f=f)
    for name, values in (("primals", primals), ("tangents", tangents)):
        expect(isinstance(values, (tuple, list)), f"jvp: {name}", values, "a tuple")
    check_same_structure("jvp", "the primals", tuple(primals), tangents=tuple(tangents))
    y, pullback = jax.vjp(f, *primals)
    _, push = jax.vjp(pullback, jax.tree.map(jnp.zeros_like, y))  # linear: the same everywhere
    return y, push(tuple(tangents))[0]


def _like(a) -> _Like:
    kind = jax.typeof(a)
    differentiable = jnp.issubdtype(kind.dtype, jnp.inexact)
    # the spec alone: a plain number such as a rate lies on no mesh, yet its gradient does
    return _Like(
        kind.shape, kind.dtype, _varying(a), kind.sharding.spec if differentiable else None
    )


def _varying(a) -> frozenset:
    return frozenset(jax.typeof(a).manual_axis_type.varying)


def _match(name, position, cotangent, like: _Like):
    if cotangent is None or not jnp.issubdtype(like.dtype, jnp.inexact):
        return None  # an integer has no gradient, whatever the rule returned
    # a scalar hyperparameter with a full-sized cotangent: sum over the broadcast axes
    shape = jnp.shape(cotangent)
    extra = len(shape) - len(like.shape)
    stretched = tuple(i for i, n in enumerate(shape) if i < extra or n != like.shape[i - extra])
    require(
        extra >= 0 and all(i < extra or like.shape[i - extra] == 1 for i in stretched),
        f"{name}: bwd returned cotangent {position} with shape {shape}, but its argument has "
        f"shape {like.shape}.",
    )
    if stretched:
        cotangent = cotangent.sum(stretched).reshape(like.shape)
    cotangent = jnp.asarray(cotangent, like.dtype)
    unsummed = tuple(sorted(_varying(cotangent) - like.varying))
    return lax.psum(cotangent, unsummed) if unsummed else cotangent
