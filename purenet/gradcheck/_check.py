"""Gradient checks: hand-written rules against two references, entry by entry.

A gradient can be computed in three ways. By hand: with the hand-written rule. Automatic: JAX
differentiates the plain forward function. Numerical: change one number a little in both directions
and see how the result changes; this needs only the forward function, and so finds a wrong reference
too. `check` compares the three for one operation, `report` for all of `purenet.ops`.
"""

import inspect
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.text_table import text_table
from purenet.core.validate import (
    Count,
    Positive,
    accepts,
    array,
    declared,
    describe_value,
    expect,
    is_integer,
    require,
    satisfying,
)
from purenet.core.vjp import Op
from purenet.gradcheck.cases import cases
from purenet.gradcheck.numerical import numerical_gradient as numerical_gradient
from purenet.nn import ops

# The step of the differences. If it is too small, rounding hides the change; if it is too large,
# curvature shows. The best step is near the cube root of the precision.
_STEPS = {"float64": 1e-4, "float32": 1e-2}


class Tolerance(NamedTuple):
    """The largest error that passes, as `check` measures it.

    >>> Tolerance(automatic=1e-11, numerical=1e-6).numerical
    1e-06
    """

    automatic: float
    numerical: float


TOLERANCES = {"float64": Tolerance(1e-11, 1e-6), "float32": Tolerance(1e-4, 2e-2)}


# the check of one operation
class Worst(NamedTuple):
    """The largest error of a gradient and where it is.

    >>> print(Worst(0.01, "w", (1, 2)))
    0.01 at w[1, 2]
    """

    error: float
    argument: str  # by its name in the operation
    entry: tuple[int, ...]

    def __str__(self):
        entry = f"[{', '.join(map(str, self.entry))}]" if self.entry else ""
        return f"{self.error:.2g} at {self.argument}{entry}"


class Check(NamedTuple):
    """The largest differences between the hand-written gradient and the two others.

    >>> found = Check("float64", Worst(0.0, "x", (0,)), Worst(0.01, "x", (1,)))
    >>> print(found.numerical)
    0.01 at x[1]
    >>> found.passed
    False
    """

    dtype: str
    automatic: Worst
    numerical: Worst

    @property
    def tolerance(self) -> Tolerance:
        """The largest errors that pass in this dtype. Raises ValueError for other dtypes."""
        expect(
            self.dtype in TOLERANCES, "Check: dtype", self.dtype, "float64 or float32", ValueError
        )
        return TOLERANCES[self.dtype]

    @property
    def passed(self) -> bool:
        """Whether neither error is above its tolerance."""
        return (
            self.automatic.error <= self.tolerance.automatic
            and self.numerical.error <= self.tolerance.numerical
        )


_Sequence = Annotated[
    Sequence, satisfying(lambda value: isinstance(value, (list, tuple)), "a list or a tuple")
]


@declared
def check(
    op: Op,
    args: _Sequence,
    static: _Sequence = (),
    h: Positive | None = None,
    nondifferentiable: _Sequence = (),
) -> Check:
    """Compare the hand-written gradient of an operation with the automatic and the numerical one.

    `op` comes from `hand_vjp`; `args` are its arrays and `static` the plain values after them. The
    gradient is that of a weighted sum of all outputs, with a different weight for each, of size
    0.5 to 1.5 and alternating in sign, with respect to every real argument. The automatic and the
    numerical gradient are those of `op.plain`. `nondifferentiable` lists the positions of
    arguments to which differences do not apply, such as a rate that decides where a mask is. The
    step `h` defaults to 1e-4 in float64 and 1e-2 in float32.

    The error of an entry is |a - b| / max(|b|, s/100), b being the automatic or the numerical
    gradient and s the largest |b| of all arguments. So it is relative, yet rounding in an entry
    near 0 does not count as an error, and nothing is averaged: the worst entry is the result. A
    deviation of 1% in any entry down to s/100 is an error of 0.01; in an entry of s/10000, one of
    0.0001. A wrong rule raises no exception: `.passed` of the result says whether both errors are
    within TOLERANCES, so `assert found.passed, found` is a test.
    Raises ValueError for a function without `.plain`, for arguments without real numbers, and for
    `nondifferentiable` positions that do not exist; TypeError for arguments that are not arrays,
    or that the operation does not accept.
    Source: Baydin, Pearlmutter, Radul & Siskind, Automatic differentiation in machine learning: a
    survey (2018), section 2.1.

    >>> found = check(ops.tanh, [jnp.array([0.5, -1.0])])
    >>> found.automatic.error < 1e-5, found.numerical.error < 1e-2
    (True, True)
    >>> assert found.passed, found
    """
    name = getattr(op, "__name__", repr(op))
    require(
        hasattr(op, "plain"),
        f"check: {name} has no .plain to compare with; build an operation with a hand-written "
        "rule with hand_vjp(plain, fwd, bwd).",
    )
    args = [jnp.asarray(array("check", f"argument {i} of {name}", a)) for i, a in enumerate(args)]
    require(
        accepts(op.plain, *args, *static),
        f"check: {name} cannot be called with the {len(args)} arrays of args and the {len(static)} "
        f"values of static; it takes {_taken(op.plain)}.",
        TypeError,
    )
    for i in nondifferentiable:
        require(
            is_integer(i) and 0 <= i < len(args),
            f"check: nondifferentiable holds {i!r}, but the arguments are numbered 0 to "
            f"{len(args) - 1}.",
        )
    kinds = ", ".join(str(a.dtype) for a in args) or "no arguments"
    text = f"check: {name} got {kinds}, but at least one array of real numbers is expected."
    require(any(map(_is_real, args)), text)
    gradients = jax.jit(lambda args: _gradients(op, args, static, h, nondifferentiable))
    return _compare(gradients(args), _argument_names(op, args))


def _taken(function) -> inspect.Signature:
    """The names and defaults of its parameters, without their types."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=signature.empty)


def _kind(arrays) -> str:
    """The dtype of several arrays taken together."""
    with jax.numpy_dtype_promotion("standard"):
        return str(jnp.result_type(*arrays))


def _is_real(a) -> bool:
    return bool(jnp.issubdtype(a.dtype, jnp.floating))


def _argument_names(op, args) -> list[str]:
    """The names of the arguments that have a gradient."""
    parameters = inspect.signature(op.plain).parameters.values()
    names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    names += [f"argument {i}" for i in range(len(names), len(args))]
    return [name for name, a in zip(names, args, strict=False) if _is_real(a)]


@jax.default_matmul_precision("highest")  # accelerators would round what differences tell
def _gradients(op, args, static, h, nondifferentiable):
    """(by hand, automatic, numerical), each one array for every argument of real numbers; the last
    None for the nondifferentiable."""
    real = [i for i, a in enumerate(args) if _is_real(a)]
    followed = [i for i in real if i not in nondifferentiable]

    def weighted(f, places):
        def g(values):
            full = list(args)
            for i, value in zip(places, values, strict=True):
                full[i] = value
            return sum(jnp.vdot(_uneven(y), y) for y in jax.tree.leaves(f(*full, *static)))

        return g

    values = [args[i] for i in real]
    by_hand = jax.grad(weighted(op, real))(values)
    automatic = jax.grad(weighted(op.plain, real))(values)
    if h is None:
        h = _STEPS.get(_kind(values), 1e-2)
    plain = weighted(op.plain, followed)
    found = numerical_gradient(plain, [args[i] for i in followed], h) if followed else []
    moved = dict(zip(followed, found, strict=True))
    return by_hand, automatic, [moved.get(i) for i in real]


def _uneven(y):
    """A weight for every output, all of them different, so that no two can hide each other."""
    k = np.arange(y.size)
    weights = (1 + np.cos(k) / 2) * np.where(k % 2, -1, 1)
    return weights.reshape(y.shape).astype(y.dtype)


def _compare(gradients, names) -> Check:
    kind = _kind(gradients[0])
    by_hand, automatic, numerical = ([_as_float64(g) for g in part] for part in gradients)
    return Check(kind, _worst(by_hand, automatic, names), _worst(by_hand, numerical, names))


def _as_float64(gradient):
    return None if gradient is None else np.asarray(gradient, np.float64)


def _worst(given, expected, names) -> Worst:
    """The entry of `given` that is farthest from `expected`, which is None where unknown."""
    maximize = [np.abs(b[np.isfinite(b)]).max(initial=0.0) for b in expected if b is not None]
    least = max(maximize, default=0.0) / 100 or 1.0
    worsts = []
    for a, b, name in zip(given, expected, names, strict=True):
        if b is None or not b.size:
            continue
        with np.errstate(invalid="ignore"):
            errors = np.abs(a - b) / np.maximum(np.abs(b), least)
        errors = np.where(np.isnan(errors), np.inf, errors)  # NaN is never right
        place = np.unravel_index(errors.argmax(), errors.shape)
        worsts.append(Worst(float(errors[place]), name, tuple(map(int, place))))
    return max(worsts, key=lambda worst: worst.error, default=Worst(0.0, names[0], ()))


# the check of all operations
class Row(NamedTuple):
    """The check of one operation in one dtype, the worst of all its cases.

    >>> worst = Worst(1e-15, "x", (0,))
    >>> Row("tanh", "float64", worst, worst).passed
    True
    """

    op: str
    dtype: str
    automatic: Worst
    numerical: Worst

    @property
    def tolerance(self) -> Tolerance:
        """The largest errors that pass in this dtype. Raises ValueError for other dtypes."""
        return Check(*self[1:]).tolerance

    @property
    def passed(self) -> bool:
        """Whether neither error is above its tolerance."""
        return Check(*self[1:]).passed


_NAMES = satisfying(
    lambda value: isinstance(value, Sequence) and not isinstance(value, str), "a list of names"
)
_Names = Annotated[Sequence[str], _NAMES]


@declared
def report(dtype: Any = "float64", seed: Count = 0, names: _Names | None = None) -> list[Row]:
    """Check the operations of `purenet.ops` on arguments drawn from `seed`: one row for each.

    `dtype` is float64, whatever `jax_enable_x64` is, or float32; `names` selects operations, and
    defaults to all. The arguments stay away from kinks and ties, where differences are
    meaningless. The rate of dropout is compared with the automatic gradient only, because its
    mask jumps. `table` formats the rows as text.
    Raises ValueError for another dtype or an unknown name.

    >>> (row,) = report("float64", names=["affine"])
    >>> row.op, row.passed
    ('affine', True)
    """
    try:
        kind = jnp.dtype(dtype).name
    except TypeError:
        kind = describe_value(dtype)
    require(
        kind in TOLERANCES and dtype is not None,
        f"report: dtype is {kind}, but float64 or float32 is expected; narrower types have too few "
        "digits for central differences.",
    )
    several = cases(seed)
    names = list(several) if names is None else list(names)
    unknown = [name for name in names if not isinstance(name, str) or name not in several]
    require(
        not unknown,
        f"report: {', '.join(map(repr, unknown))} unknown; the operations of purenet.ops are "
        f"{', '.join(several)}.",
    )
    with jax.enable_x64(kind == "float64"):
        todo = [
            (name, case._replace(args=_as(kind, case.args)))
            for name in names
            for case in several[name]
        ]

        @jax.jit  # all of them in one program: nearly all of the time is compilation
        def gradients(args):
            return [
                _gradients(getattr(ops, name), a, case.static, None, case.nondifferentiable)
                for (name, case), a in zip(todo, args, strict=True)
            ]

        found = gradients([case.args for _, case in todo])
    checks: dict[str, list[Check]] = {name: [] for name in names}
    for (name, case), three in zip(todo, found, strict=True):
        compared = _compare(three, _argument_names(getattr(ops, name), case.args))
        checks[name].append(compared)
    worst = lambda several: max(several, key=lambda w: w.error)
    return [
        Row(
            name,
            kind,
            worst(c.automatic for c in checks[name]),
            worst(c.numerical for c in checks[name]),
        )
        for name in names
    ]


def _as(dtype, args) -> tuple[jax.Array, ...]:
    arrays = map(jnp.asarray, args)
    return tuple(a.astype(dtype) if _is_real(a) else a for a in arrays)


def table(*reports: Sequence[Row]) -> str:
    """Reports side by side as text: one line per operation, then the failures, or "ok".

    Raises TypeError for anything but reports, ValueError without a report and for reports of
    different operations.

    >>> right, wrong = Worst(1e-15, "x", (0, 0)), Worst(1e-2, "x", (0, 1))
    >>> print(table([Row("tanh", "float64", right, wrong)]))
                float64   float64
    by hand - automatic numerical
    tanh        1.0e-15   1.0e-02  FAILED
    tolerance   1.0e-11   1.0e-06
    tanh, float64, numerical: 0.01 at x[0, 1]
    1 of 1 operations: FAILED
    """
    for rows in reports:
        legal = isinstance(rows, list | tuple) and all(isinstance(row, Row) for row in rows)
        expect(legal, "table: a report", rows, "a list of Row")
    operations = [[row.op for row in rows] for rows in reports]
    require(
        bool(reports) and bool(reports[0]) and all(ops == operations[0] for ops in operations),
        f"table: the reports are of the operations {operations}, but at least one report, and "
        "the same operations in all of them, are expected.",
    )
    kinds = ("automatic", "numerical")
    written = lambda errors: [f"{error:.1e}" for error in errors]
    cells = [["", *(rows[0].dtype for rows in reports for _ in kinds)]]
    cells.append(["by hand -", *kinds * len(reports)])
    verdicts, failures = ["", ""], []
    for same_op in zip(*reports, strict=True):
        errors = [getattr(row, kind).error for row in same_op for kind in kinds]
        cells.append([same_op[0].op, *written(errors)])
        verdicts.append("  ok" if all(row.passed for row in same_op) else "  FAILED")
        failures += [
            f"{row.op}, {row.dtype}, {kind}: {getattr(row, kind)}"
            for row in same_op
            for kind in kinds
            if not getattr(row, kind).error <= getattr(row.tolerance, kind)
        ]
    cells.append(["tolerance", *written(limit for rows in reports for limit in rows[0].tolerance)])
    aligned = text_table(cells, left=1, gap=1)
    lines = [line + verdict for line, verdict in zip(aligned, [*verdicts, ""], strict=True)]
    failed, count = verdicts.count("  FAILED"), len(reports[0])
    summary = f"{failed} of {count} operations: FAILED" if failed else f"all {count} operations: ok"
    return "\n".join([*lines, *failures, summary])
