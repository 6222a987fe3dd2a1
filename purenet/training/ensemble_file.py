"""An ensemble in one file: its networks' description, their params and their weights.

The members of a group share one description. Numbers in it that were traced, such as a slope that
was a hyperparameter, are arrays with one place a member. Nothing is unpickled or evaluated.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purenet.checkpoint.encoding import check_same
from purenet.checkpoint.spec import (
    Registry,
    checked_registry,
    describe,
    describe_sizes,
    rebuild,
    rebuild_sizes,
)
from purenet.checkpoint.trees import leaf_specs, opened, read_tree, write_tree
from purenet.core.ensemble import Ensemble, Predictor
from purenet.core.padded import capacity_of
from purenet.core.tree import short
from purenet.core.types import Optimizer, Params, PyTree
from purenet.core.validate import describe_value, require
from purenet.nn.base import as_layer
from purenet.nn.losses import sigmoid_binary_cross_entropy, softmax_cross_entropy
from purenet.training.evaluation import predict, score
from purenet.training.settings import Settings, link

_LOSSES: dict[str, Callable | None] = {  # one with the same link
    "softmax": softmax_cross_entropy, "sigmoid": sigmoid_binary_cross_entropy, "identity": None,
}  # fmt: skip


class Trained(NamedTuple):
    """The state of a network that is trained no further."""

    params: Params


class Group(NamedTuple):
    """Members with one description, as plain values that JSON can hold."""

    network: Any
    sizes: Any
    numbers: list[str]  # the dtypes of what `network` and `sizes` leave open
    link: str
    at_once: int  # examples that are predicted together at most, if they are large
    members: int

    def settings(self, caller: str, registry: Registry, numbers: tuple) -> Settings:
        """What predicts for a member with these numbers. Raises ValueError for a description that
        is none."""
        net = as_layer(rebuild(caller, self.network, registry, numbers=numbers))
        sizes = rebuild_sizes(caller, self.sizes, numbers)
        loss: Any = _LOSSES[self.link]
        return _settings(loss)._replace(net=net, sizes=sizes, batch_size=self.at_once)

    def like(self, caller: str, registry: Registry) -> PyTree:
        """What is stored of the members, by shape and dtype; nothing is computed."""

        def started(key, numbers):
            settings = self.settings(caller, registry, numbers)
            try:
                return settings.net.init(key, settings.sizes)
            except Exception as error:  # whatever a description may lead a layer to
                raise ValueError(
                    f"{caller}: the network cannot be initialised for sizes {short(self.sizes)}: "
                    f"{type(error).__name__}: {error}"
                ) from error

        numbers = tuple(jax.ShapeDtypeStruct((), np.dtype(dtype)) for dtype in self.numbers)
        params = jax.eval_shape(started, jax.random.key(0), numbers)
        stacked = lambda a: jax.ShapeDtypeStruct((self.members, *a.shape), a.dtype)
        return jax.tree.map(stacked, {"numbers": numbers, "params": params})


def save_ensemble(
    path: str | os.PathLike,
    ensemble: Ensemble,
    registry: Registry | None = None,
    metadata: Any = None,
) -> None:
    """Write an ensemble, such as `result.ensemble("greedy")`, to one file, complete or not at all.

    The file holds what `predict` and `score` need, and neither the trial function nor the states of
    optimizers. Layers, losses and metrics are stored by name: what is not purenet's own is named in
    `registry={"swish": swish}`, here and on loading, as in `save_network`. Of a loss, a metric or a
    function `weights` without a name only the score is lost, which the loaded ensemble says.
    Raises TypeError if `ensemble` is not an Ensemble; ValueError for members that were not trained
    by `supervised`, for layers and functions of theirs without a name, naming both, and where their
    params are not those of the network; otherwise what `save` raises.

    >>> import tempfile
    >>> from purenet import mean_squared_error, mlp, sgd, supervised, sweep
    >>> trial = lambda hyper: supervised(
    ...     mlp(), (2, 3, 1), sgd(hyper["rate"]), mean_squared_error, batch_size=4
    ... )
    >>> data = (np.ones((8, 2)), np.ones((8, 1)))
    >>> result = sweep.run(trial, {"rate": sweep.uniform(0.0, 0.1)}, (data, data), 3, 1, keep=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_ensemble(f"{folder}/best.npz", result.ensemble(2))
    ...     loaded = load_ensemble(f"{folder}/best.npz")
    >>> len(loaded), loaded.predict(data[0]).shape, sorted(loaded.score(data))
    (2, (8, 1), ['loss'])
    """
    caller = "save_ensemble"
    registry = checked_registry(caller, registry)
    such = "an Ensemble such as result.ensemble(10) is expected"
    text = f"{caller}: ensemble is {describe_value(ensemble)}, but {such}."
    require(isinstance(ensemble, Ensemble), text, TypeError)
    groups, arrays = [], []
    for predictor, stacked in zip(ensemble.predictors, ensemble.members, strict=True):
        group, stored = _described(caller, predictor, stacked, registry)
        # what is written must be readable: the rebuilt network says what is expected
        expected = leaf_specs(caller, group.like(caller, registry))
        check_same(f"{caller}: params", leaf_specs(caller, stored), expected)
        groups.append(group._asdict())
        arrays.append(stored)
    scoring, class_weights = _describe_scoring(caller, ensemble, registry)
    document = {
        "metadata": {} if metadata is None else metadata,
        "ensemble": {
            "trials": list(ensemble.trials),
            "dtype": ensemble.weights.dtype.name,
            "groups": groups,
            "scoring": scoring,
        },
    }
    tree = {"groups": arrays, "weights": ensemble.weights, "class_weights": class_weights}
    write_tree(caller, path, tree, document)


def load_ensemble(path: str | os.PathLike, registry: Registry | None = None) -> Ensemble:
    """The ensemble that `save_ensemble` wrote, which predicts and scores as it did.

    Raises FileNotFoundError where there is no file; ValueError that names the file and the part for
    names and arguments that are not known, and for everything that `load` refuses; TypeError for
    a `path` that is not a path, and for a `registry` that is not a dict.

    >>> load_ensemble("no-such-file.npz")
    Traceback (most recent call last):
    FileNotFoundError: load_ensemble: there is no file no-such-file.npz.
    """
    registry = checked_registry("load_ensemble", registry)
    with opened("load_ensemble", path) as (file, document):
        found: Any = document.get("ensemble")
        text = "holds no ensemble: read a network with `load_network`, anything else with `load`."
        require(found is not None, f"{file.caller} {text}")
        legal = _is_ensemble(found)
        require(legal, f"{file.caller} is damaged: its ensemble is {short(found)}.")
        groups = [Group(**group) for group in found["groups"]]
        shape = (len(found["trials"]),)
        scoring = found["scoring"]
        like = {
            "groups": [group.like(file.caller, registry) for group in groups],
            "weights": jax.ShapeDtypeStruct(shape, np.dtype(found["dtype"])),
            "class_weights": [
                jax.ShapeDtypeStruct((count,), np.dtype(dtype))
                for count, dtype in scoring["class_weights"]
            ],
        }
        tree = read_tree(file, document, like)
        scorer = _rebuild_scorer(file.caller, scoring, tree["class_weights"], registry)
        return Ensemble(
            tuple((stored["numbers"], Trained(stored["params"])) for stored in tree["groups"]),
            tree["weights"],
            tuple(found["trials"]),
            tuple(functools.partial(_predictor, group, file.caller, registry) for group in groups),
            scorer,
            scoring["missing"],
        )


def _predictor(group: Group, caller: str, registry: Registry, numbers: tuple) -> Callable:
    return functools.partial(predict, group.settings(caller, registry, numbers))


def _settings(loss: Callable) -> Settings:
    """Settings that predict and score, and do not train."""
    idle: Any = Optimizer(lambda weights: (), lambda grads, state, weights: (grads, state))
    nothing: Any = None
    return Settings(nothing, (), idle, loss, 1, None, "shuffled", None, 1)


# writing
def _described(
    caller: str, predictor: Predictor, stacked: PyTree, registry: Registry
) -> tuple[Group, PyTree]:
    """A group, and what is stored of its members.

    The numbers are what tracing finds them to be, so that the loaded network computes as the
    trained one did, in the same types.
    """
    hyper, states = stacked
    count = len(jax.tree.leaves(stacked)[0])
    found: dict[str, Any] = {}

    @jax.jit
    def numbers_of(places, hyper):
        def of_one(_, hyper):
            settings = _settings_of(caller, predictor(hyper))
            numbers: list = []
            found["network"] = describe(caller, settings.net, registry, numbers=numbers)
            found["sizes"] = describe_sizes(caller, settings.sizes, numbers)
            found["link"] = link(settings)
            found["at_once"] = capacity_of(settings.batch_size) // settings.microbatches
            return tuple(numbers)

        return jax.vmap(of_one)(places, hyper)

    numbers = numbers_of(jnp.arange(count), hyper)
    group = Group(**found, numbers=[a.dtype.name for a in numbers], members=count)
    return group, {"numbers": numbers, "params": states.params}


def _settings_of(caller: str, prediction: Callable) -> Settings:
    """What predicts, of `predict` or `score` as `supervised` fills it in."""
    ours = isinstance(prediction, functools.partial) and prediction.func in (predict, score)
    require(
        ours,
        f"{caller}: the ensemble predicts or scores by {describe_value(prediction)}, code that a "
        "file cannot hold; train by `supervised`, or save the numbers alone, "
        "pn.save(path, ensemble.members).",
    )
    return prediction.args[0]  # type: ignore[attr-defined]


def _describe_scoring(
    caller: str, ensemble: Ensemble, registry: Registry
) -> tuple[dict[str, Any], list[jax.Array]]:
    """How predictions are scored, and class weights if there are any; or why they are not."""
    nothing: dict[str, Any] = {"loss": None, "metrics": None, "weights": None, "class_weights": []}
    if ensemble.scorer is None:
        return nothing | {"missing": ensemble.unscored}, []
    named = functools.partial(describe, caller, registry=registry)
    try:
        settings = _settings_of(caller, ensemble.scorer)
        metrics, weigh = settings.metrics, settings.weights
        arrays = [] if weigh is None or callable(weigh) else [jnp.asarray(weigh)]
        scoring = {
            "loss": named(settings.loss, where="the loss"),
            "metrics": metrics
            and {name: named(f, where=f"the metric {name!r}") for name, f in metrics.items()},
            "weights": named(weigh, where="weights") if callable(weigh) else None,
            "class_weights": [[len(a), a.dtype.name] for a in arrays],
            "missing": "",
        }
    except ValueError as error:
        hint = "Compare predict(x) with the targets by a function of purenet.metrics."
        return nothing | {"missing": f"it was saved without one. {error} {hint}"}, []
    return scoring, arrays


# reading
def _rebuild_scorer(
    caller: str, scoring: dict[str, Any], class_weights: list, registry: Registry
) -> Callable | None:
    if scoring["missing"]:
        return None
    made = functools.partial(rebuild, caller, registry=registry)
    settings, metrics, weights = _settings(made(scoring["loss"], where="the loss")), None, None
    if scoring["metrics"] is not None:
        found = scoring["metrics"].items()
        metrics = {name: made(f, where=f"the metric {name!r}") for name, f in found}
    if scoring["weights"] is not None:
        weights = made(scoring["weights"], where="weights")
    weights = class_weights[0] if class_weights else weights
    return functools.partial(score, settings._replace(metrics=metrics, weights=weights))


def _is_ensemble(found: Any) -> bool:
    """Whether a document's entry has the form that `save_ensemble` writes."""
    counts = lambda values: all(type(value) is int and value >= 0 for value in values)
    if not (isinstance(found, dict) and {*found} == {"trials", "dtype", "groups", "scoring"}):
        return False
    trials, groups, scoring = found["trials"], found["groups"], found["scoring"]
    return (
        isinstance(trials, list)
        and counts(trials)
        and _is_dtype(found["dtype"])
        and isinstance(groups, list)
        and len(groups) > 0
        and all(map(_is_group, groups))
        and sum(group["members"] for group in groups) == len(trials)
        and _is_scoring(scoring)
    )


def _is_group(group: Any) -> bool:
    return (
        isinstance(group, dict)
        and {*group} == {*Group._fields}
        and isinstance(group["numbers"], list)
        and all(map(_is_dtype, group["numbers"]))
        and isinstance(group["link"], str)
        and group["link"] in _LOSSES
        and all(type(group[name]) is int and group[name] >= 1 for name in ("at_once", "members"))
    )


def _is_scoring(scoring: Any) -> bool:
    return (
        isinstance(scoring, dict)
        and {*scoring} == {"loss", "metrics", "weights", "class_weights", "missing"}
        and isinstance(scoring["metrics"], dict | None)
        and isinstance(scoring["missing"], str)
        and isinstance(scoring["class_weights"], list)
        and len(scoring["class_weights"]) <= 1
        and all(
            isinstance(pair, list)
            and len(pair) == 2
            and type(pair[0]) is int
            and pair[0] >= 0
            and _is_dtype(pair[1])
            for pair in scoring["class_weights"]
        )
    )


def _is_dtype(name: Any) -> bool:
    names = (
        "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64"
    )
    return isinstance(name, str) and name in names.split()
