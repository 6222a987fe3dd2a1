"""Forward mode through code that has reverse rules: the rules give way to what they are rules of.

`jax.jvp` rejects a function with a reverse rule of its own. `purenet.jvp` transposes the pullback
instead, which keeps what the pullback needs: fine for a layer, but not for a whole training, whose
steps would all be kept. Here a function is traced, and where a rule is left in what it does, the
function itself takes its place. A gradient inside has used its rules by then: these are plain code
already, with derivatives of their own.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun
from jax.extend.core.primitives import closed_call_p, custom_vjp_call_p

P = ParamSpec("P")
R = TypeVar("R")


def without_rules(f: Callable[P, R]) -> Callable[P, R]:
    """f without reverse rules, as `jax.jvp` takes it: the same results, JAX's own derivatives.

    Only the rules that no `jax.grad` inside f has used are replaced, in loops and branches too.

    >>> from purenet.core.vjp import hand_vjp
    >>> square = hand_vjp(lambda x: x * x, lambda x: (x * x, x), lambda x, g: (2 * x * g,))
    >>> y, dy = jax.jvp(without_rules(square), (3.0,), (1.0,))
    >>> float(y), float(dy)
    (9.0, 6.0)
    """

    @functools.wraps(f)
    def plain(*args: P.args, **kwargs: P.kwargs) -> R:
        traced, shapes = jax.make_jaxpr(f, return_shape=True)(*args, **kwargs)
        found = jaxpr_as_fun(_replaced(traced))(*jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return plain


def _replaced(value: Any) -> Any:
    """Traced code, alone or in a tuple as that of branches, with its rules replaced; any other
    parameter of a step as it is."""
    if isinstance(value, Jaxpr):
        return value.replace(eqns=list(map(_step, value.eqns)))
    if isinstance(value, ClosedJaxpr):
        return ClosedJaxpr(_replaced(value.jaxpr), value.consts)
    return tuple(map(_replaced, value)) if type(value) is tuple else value


def _step(step: JaxprEqn) -> JaxprEqn:
    if step.primitive is custom_vjp_call_p:
        code = {"call_jaxpr": _replaced(step.params["call_jaxpr"])}
        return step.replace(primitive=closed_call_p, params=code)
    return step.replace(params={name: _replaced(value) for name, value in step.params.items()})
