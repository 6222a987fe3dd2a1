"""coordinate_check: how large the outputs of each layer become, and how far they move, by width."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purenet.core.contracts import checked_trainable
from purenet.core.padded import PaddedSize
from purenet.core.types import PyTree, Trainable
from purenet.core.validate import describe_value, integer, is_integer, require
from purenet.plots.lines import curves
from purenet.sweep.results.figures import Path
from purenet.sweep.space.distributions import Choice
from purenet.sweep.space.padded import Padded
from purenet.sweep.space.space import take_apart


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """What `coordinate_check` measured: root mean squares of each layer's outputs, by its name.

    >>> found = Coordinates(np.array([8, 32]), {}, {}, {"0 dense": np.array([[0.1], [0.2]])}, 1)
    >>> {name: round(slope, 3) for name, slope in found.slopes().items()}
    {'0 dense': 0.5}
    """

    widths: np.ndarray  # (widths,), increasing
    start: dict[str, np.ndarray]  # (widths,) of the outputs before training
    size: dict[str, np.ndarray]  # (widths, epochs) of the outputs after each epoch
    change: dict[str, np.ndarray]  # (widths, epochs) of their differences from those before
    programs: int

    def slopes(self) -> dict[str, float]:
        """The exponent p of each layer in change = c · widthᵖ, fitted after the last epoch: about 0
        where a wider network learns as fast, above 0 where it needs a smaller rate. NaN for a layer
        that did not move, or diverged."""
        x = np.log(self.widths)
        with np.errstate(all="ignore"):
            ends = {name: np.log(values[:, -1]) for name, values in self.change.items()}
        fit = lambda y: float(np.polyfit(x, y, 1)[0]) if np.isfinite(y).all() else np.nan
        return {name: fit(y) for name, y in ends.items()}

    def plot(self, path: Path = None) -> Any:
        """The change of each layer after the last epoch over the width, on logarithmic axes.

        Needs matplotlib (extra `plot`). Without a path the figure is returned. Raises ValueError if
        no layer moved, or every width diverged.
        """
        x = np.log2(self.widths)
        series = {name: (x, values[:, -1]) for name, values in self.change.items()}
        return curves(
            path, series, "Coordinate check", "log₂ of the width",
            f"change of outputs after {next(iter(self.change.values())).shape[1]} epochs",
            y_scale="log",
        )  # fmt: skip


def coordinate_check(
    trial: Callable,
    space: dict[str, Any],
    data: PyTree,
    epochs: int = 4,
    seed: int = 0,
    seeds: int = 1,
    width: str = "width",
) -> Coordinates:
    """Train networks of several widths for a few steps, and measure their layers' outputs.

        start = rms(h₀)       size = rms(hₜ)       change = rms(hₜ - h₀)

    over examples and units, with hₜ the outputs of a layer after t epochs. In a network whose best
    rate does not depend on its width, such as one made by `purenet.mup`, the change of every layer
    is the same for all widths; where it grows with the width, the best rate falls.

    `trial(hyper)` is that of `run`. In `space`, the hyperparameter `width` is a choice of widths,
    and all others are constants. With `padded(choice(widths), to=(largest,))` all widths are
    trained in one program, with `choice(widths)` in one for each. `data` is (x, t), for training
    and for measuring; if a minibatch holds all of it, every epoch is one step. Values are means
    over `seeds`.

    Raises ValueError for a space without such a choice or with other distributions, and for a
    `Trainable` without `activations`; TypeError if the space is not a dict or `trial` does not
    return a Trainable; TypeError or ValueError for data that cannot be trained on, and unless the
    numbers are positive integers.
    Source: Yang et al. (2022), Tensor Programs V, appendix D.1.

    >>> import purenet as pn
    >>> from purenet import sweep
    >>> def trial(hyper):
    ...     return pn.supervised(pn.mlp(), (3, hyper["width"], 2), pn.sgd(hyper["rate"]),
    ...                          pn.softmax_cross_entropy, batch_size=4)
    >>> space = {"width": sweep.padded(sweep.choice([4, 8]), to=(8,)), "rate": 0.1}
    >>> found = sweep.coordinate_check(trial, space, (np.ones((4, 3)), np.zeros(4, int)), epochs=2)
    >>> found.change["2 dense"].shape, found.programs
    ((2, 2), 1)
    """
    groups = _groups(space, width)
    epochs = integer("coordinate_check: epochs", epochs, least=1)
    seeds = integer("coordinate_check: seeds", seeds, least=1)
    seed = integer("coordinate_check: seed", seed, least=0)
    keys, data = jax.random.split(jax.random.key(seed), seeds), jax.tree.map(jnp.asarray, data)
    parts = []
    for capacity, widths in groups:
        # widths are traced where they are padded, and static where they are not
        size = lambda n, c=capacity, w=widths: w[0] if c is None else PaddedSize(n, c)
        build = lambda n, size=size: _trainable(trial({**space, width: size(n)}))
        build(widths[0]).check(data)
        one = functools.partial(_measured, build, epochs)
        each = jax.vmap(jax.vmap(one, (None, 0, None)), (0, None, None))
        parts.append(jax.device_get(jax.jit(each)(jnp.array(widths), keys, data)))
    start, size, change = jax.tree.map(lambda *a: np.concatenate(a).mean(axis=1), *parts)
    every = np.array([n for _, widths in groups for n in widths])
    return Coordinates(every, start, size, change, len(groups))


def _groups(space: Mapping[str, Any], width: str) -> list[tuple[int | None, list[int]]]:
    """The widths of each program, increasing, with the capacity of their arrays if padded.

    Raises unless they are the only choice in the space.
    """
    require(
        isinstance(space, Mapping),
        f"coordinate_check: space is {describe_value(space)}, but a dict is expected.",
        TypeError,
    )
    leaf = space.get(width)
    drawn = leaf.distribution if isinstance(leaf, Padded) else leaf
    several = isinstance(drawn, Choice) and len(set(drawn.values)) > 1
    require(
        several and all(map(is_integer, drawn.values)),  # type: ignore[union-attr]
        f"coordinate_check: {width!r} is {describe_value(leaf)} in the space, but several widths "
        "are expected, such as choice([64, 128, 256]), or padded(choice([64, 128, 256]), "
        "to=(256,)) for one program.",
    )
    others = [name for name in take_apart(space).drawn if name != width]
    require(
        not others,
        f"coordinate_check: {others[:1]} is drawn, but all hyperparameters other than {width!r} "
        "have to be constants; choose a value.",
    )
    widths = sorted(set(drawn.values))  # type: ignore[union-attr]
    if not isinstance(leaf, Padded):
        return [(None, [n]) for n in widths]
    rungs = [leaf.to[i] for i in leaf.rung(np.array(widths))]
    pairs = list(zip(rungs, widths, strict=True))
    return [(rung, [n for r, n in pairs if r == rung]) for rung in dict.fromkeys(rungs)]


def _trainable(trainable: Any) -> Trainable:
    trainable = checked_trainable("coordinate_check", trainable)
    require(
        trainable.activations is not None,
        "coordinate_check: the trial function's Trainable has no `activations(state, x)`, which "
        "returns the outputs of each layer by name; that of `supervised` has it.",
    )
    return trainable


def _measured(build, epochs, size, key, data):
    """The three measurements of one network."""
    trainable = build(size)
    first = trainable.init(key)
    before = trainable.activations(first, data[0])
    rms = lambda h: {name: _rms(h[name], before[name]) for name in before}

    def step(state, _):
        state, _ = trainable.epoch(state, data)
        after = trainable.activations(state, data[0])
        return state, (rms(after), rms(jax.tree.map(jnp.subtract, after, before)))

    return rms(before), *jax.lax.scan(step, first, length=epochs)[1]


def _rms(h: jax.Array, before: jax.Array) -> jax.Array:
    """The root mean square over examples and units; padding is 0 in all of `before`."""
    units = jnp.maximum(jnp.any(before != 0, axis=range(before.ndim - 1)).sum(), 1)
    return jnp.sqrt(jnp.square(h).sum() / (h.size / h.shape[-1] * units))
