"""Bad input, outside of the networks: a row a mistake, and a row an input that must work.

The mistakes that have to do with what a file holds are in test_data, test_checkpoint and
test_store; those of layers and optimizers with theirs.
"""

import contextlib
import inspect
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import checkpoint, cli, data, gradcheck, plots, sweep
from purenet.checkpoint import trees
from purenet.data import images
from purenet.gradcheck import _check as gradcheck_check
from purenet.sweep.engine.layout import chosen_devices

NAN, KEY = float("nan"), jax.random.key(0)
X, T = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
DATA = ((X, T), (X, T))
SPACE = {"rate": sweep.uniform(0.5, 1.0)}
ROW = gradcheck.Row("tanh", "float64", *[gradcheck.Worst(0.0, "x", ())] * 2)
TANH = pn.ops.tanh
LAYERS = pn.mlp(pn.sigmoid).init(KEY, (4, 5, 3)).weights


def halve(hyper):
    """A trial that costs nothing to compile: it diverges where the rate is infinite."""
    return pn.Trainable(
        lambda key: hyper["rate"], lambda s, d: (s / 2, {}), lambda s, d: {"loss": s}
    )


def run(trial=halve, space=SPACE, data=DATA, trials=2, epochs=2, **options):
    return sweep.run(trial, space, data, trials, epochs, **options)


def slope(trial=halve, hyper={"rate": 0.5}, data=DATA, epochs=2, **options):  # noqa: B006
    return sweep.hypergradient(trial, hyper, data, epochs, **options)


def plan(**options):
    return sweep.plan(halve, SPACE, DATA, 2, 2, **options)


def trained(init=lambda key: 0.0, epoch=lambda s, d: (s, {}), evaluate=lambda s, d: {"loss": s}):
    return pn.Trainable(init, epoch, evaluate)


def gives(**functions):
    """A trial function that makes such a Trainable."""
    return lambda hyper: trained(**functions)


def supervised(**changed):
    options = {"net": pn.mlp(), "sizes": (4, 2), "optimizer": pn.sgd(0.1), "batch_size": 2,
               "loss": pn.softmax_cross_entropy} | changed  # fmt: skip
    return pn.supervised(**options)


def fit(trainable=None, data=DATA, epochs=1, key=KEY, **options):
    return pn.fit(trainable or supervised(), data, epochs, key, **options)


def ask(space=SPACE, search=sweep.random, n=2, **options):
    return sweep.AskTell(space, search, **options).ask(n)


def tell(numbers, scores):
    study = sweep.AskTell(SPACE)
    study.ask(2)
    study.tell(numbers, scores)


def sampler(points):
    return lambda distributions, trials, seed: points


def rounds(*goals):
    return sweep.Scheduler(sweep.random, lambda points, epochs: iter(goals))


def differences(f=lambda x: (x**2).sum(), tree=jnp.ones(2), **options):
    return gradcheck.numerical_gradient(f, tree, **options)


def two_layer(weights=LAYERS, x=np.ones((2, 4)), t=np.array([0, 2]), **options):
    return gradcheck.numerical_gradient_two_layer(weights, x, t, **options)


# what is drawn: (path, **options) -> path
SERIES, PANELS = {"a": [1.0, 2.0]}, [("t", {"train": [1.0, 2.0]})]
COLUMNS = {"a": [1, 2], "b": [1, 2]}
DRAWN = {
    "curves": lambda path, what=SERIES, **o: plots.curves(path, what, **o),
    "curve_grid": lambda path, what=PANELS, **o: plots.curve_grid(path, what, **o),
    "histograms": lambda path, what=[("a", [("b", [1.0])])], **o: plots.histograms(path, what, **o),
    "images": lambda path, what=np.ones((1, 2, 2)), **o: plots.images(path, what, **o),
    "filters": lambda path, what=np.ones((2, 2, 1, 1)), **o: plots.filters(path, what, **o),
    "front": lambda path, what=(1.0, 2.0), **o: plots.front(path, what, (1.0, 2.0), [0], **o),
    "slices": lambda path, what=COLUMNS, y=(1, 2), **o: plots.slices(path, what, y, **o),
    "pairwise": lambda path, what=COLUMNS, y=(1, 2), **o: plots.pairwise(path, what, y, **o),
    "parallel_coordinates": lambda path, what=COLUMNS, y=(1, 2), **o: plots.parallel_coordinates(
        path, what, y, **o
    ),
    "rungs": lambda path, what=((1.0, 2.0),), epochs=(2,), levels=(1,), **o: plots.rungs(
        path, what, epochs, levels, **o
    ),
    "lineage": lambda path, what=((1.0, 2.0),), **o: plots.lineage(path, what, [[0]], 1, **o),
}


def draw(name, *what, **options):
    return lambda: DRAWN[name]("never-written.png", *what, **options)


FILE = "no-such-folder/a.npz"
NO_PATH = r"the path is {}, but a string or a Path"
READERS = {
    "idx": data.idx, "csv": data.csv, "mnist": data.mnist, "load_network": pn.load_network,
    "load_metadata": checkpoint.load_metadata, "load_ensemble": pn.load_ensemble,
    "sweep.load": sweep.load,
    "load": lambda path: pn.load(path, {}), "save": lambda path: pn.save(path, {}),
    "save_network": lambda path: pn.save_network(path, pn.dense(2), 2, pn.dense(2).init(KEY, 2)),
    "fit": lambda path: fit(path=path), "sweep": lambda path: run(path=path),
    **DRAWN,
}  # fmt: skip
ODD_KEYS = {1: 1.0, "a": 2.0}

# id -> (a mistake, the type of the error, a regex with what tells it)
MISTAKES = {
    # data
    "digits a word": (lambda: data.digits(flatten="no"), TypeError, "flatten is 'no', but True"),
    "csv a word": (lambda: data.csv("a", one_hot=2), TypeError, "csv: one_hot is 2, but True"),
    "mnist a word": (lambda: data.mnist(".", normalise=None), TypeError, "normalise is None"),
    "one_hot ragged": (lambda: data.one_hot([[1], [0, 1]], 2), TypeError, r"labels is \[\[1\]"),
    "shuffle key": (lambda: data.shuffle(0, X), TypeError, "shuffle: the key is 0, but a random"),
    "shuffle keys": (lambda: data.shuffle(jax.random.split(KEY, 3), X), ValueError, r"\(3,\)"),
    "shuffle order": (lambda: data.shuffle(KEY, {1: X, "a": X}), TypeError, "keys of several"),
    "split key": (lambda: data.split(np.array([0, 1]), X), TypeError, r"of int64 \(2,\), but"),
    # files
    **{
        f"{name} no path": (lambda read=read: read(3), TypeError, NO_PATH.format(3))
        for name, read in READERS.items()
    },
    **{
        f"{name} bytes": (lambda read=read: read(b"a.npz"), TypeError, NO_PATH.format("b'a.npz'"))
        for name, read in READERS.items()
    },
    "no name": (lambda: run(path=""), ValueError, "sweep: the path is empty"),
    "save order": (lambda: pn.save("a.npz", ODD_KEYS), TypeError, "1 and 'a', which have no order"),
    "registry": (
        lambda: pn.load_network(FILE, pn.relu), TypeError, "registry is .*, but a dict by name",
    ),
    "save_ensemble": (lambda: pn.save_ensemble(FILE, 3), TypeError, "ensemble is 3, but an Ens"),
    # gradcheck
    "check args": (lambda: gradcheck.check(TANH, 3), TypeError, "args is 3, but a list"),
    "check text": (lambda: gradcheck.check(TANH, ["a"]), TypeError, "argument 0 of .*tanh is 'a'"),
    "check arity": (lambda: gradcheck.check(TANH, [X, X]), TypeError, "with the 2 arrays of args"),
    "check static": (lambda: gradcheck.check(TANH, [X], 3), TypeError, "static is 3, but a list"),
    "check h": (lambda: gradcheck.check(TANH, [X], h="a"), TypeError, "check: h is 'a', but"),
    "check step": (lambda: gradcheck.check(TANH, [X], h=0), ValueError, "check: h is 0, but"),
    "check call": (lambda: gradcheck.check(TANH, [X, X]), TypeError, r"it takes \(x\)\."),
    "nondifferentiable": (
        lambda: gradcheck.check(TANH, [X], nondifferentiable=[5]),
        ValueError,
        "holds 5, .* 0 to 0",
    ),
    "report type": (lambda: gradcheck.report("float63"), ValueError, "dtype is 'float63'"),
    "report names": (lambda: gradcheck.report(names="tanh"), TypeError, "names is 'tanh'"),
    "report list": (lambda: gradcheck.report(names=[["tanh"]]), ValueError, r"\['tanh'\] unknown"),
    "table of none": (lambda: gradcheck.table(), ValueError, r"operations \[\]"),
    "table of text": (lambda: gradcheck.table(["a"]), TypeError, r"a report is \['a'\]"),
    "table apart": (
        lambda: gradcheck.table([ROW], [ROW._replace(op="relu")]), ValueError,
        r"\[\['tanh'\], \['relu'\]\]",
    ),
    "Row": (lambda: ROW._replace(dtype="int8").passed, ValueError, "dtype is 'int8', but float64"),
    "differences of text": (lambda: differences("f"), TypeError, "f is 'f', but a function"),
    "differences f(): ": (lambda: differences(lambda: 1.0), TypeError, "called with one tree"),
    "differences give text": (lambda: differences(lambda x: "a"), TypeError, "value of f is"),
    "differences tree": (lambda: differences(tree={"a": "b"}), TypeError, "a leaf of the tree is"),
    "differences objects": (
        lambda: differences(tree=np.array([1, None])), TypeError, r"an array of object \(2,\)",
    ),
    "differences h": (lambda: differences(h=[1]), TypeError, r"h is \[1\], but a finite number"),
    "differences hs": (lambda: differences(h=np.ones(2)), (TypeError, ValueError), r"\(2,\)"),
    "two layers x": (lambda: two_layer(x=[[1.0] * 4]), TypeError, r"x is \[\[1.0.*jnp.asarray"),
    "two layers t": (lambda: two_layer(t="a"), TypeError, "t is 'a', but an array"),
    "two layers none": (lambda: two_layer(x=np.ones((0, 4))), ValueError, r"x \(0, 4\).*n > 0"),
    "two layers whole": (
        lambda: two_layer(jax.tree.map(lambda a: a.astype(int), LAYERS)), ValueError, r"astype\(fl",
    ),
    "two layers activation": (lambda: two_layer(activation="relu"), TypeError, "activation is 're"),
    "two layers sum": (
        lambda: two_layer(activation=jnp.sum), ValueError, r"\(2, 5\) to an array of float64 \(\)",
    ),
    "two layers loss": (lambda: two_layer(loss=lambda y, t: y), ValueError, r"loss has shape \(2,"),
    # spaces
    "uniform text": (lambda: sweep.uniform("0.1", 1), TypeError, "low is '0.1', but a number"),
    "uniform array": (lambda: sweep.uniform(X, 1), TypeError, r"of float32 \(4, 4\), but a number"),
    "loguniform huge": (lambda: sweep.loguniform(1, 10**400), ValueError, "high is inf, but"),
    "loguniform bool": (lambda: sweep.loguniform(True, 2), TypeError, "low is True, but a number"),
    "normal nan": (lambda: sweep.normal(0, NAN), ValueError, "std is nan, but a finite"),
    "randint": (lambda: sweep.randint(0, "9"), TypeError, "high is '9', but an integer"),
    "lograndint": (lambda: sweep.lograndint(0, 9), ValueError, "low is 0, but at least 1"),
    "padded": (
        lambda: sweep.padded(sweep.randint(1, 9), (4,)), ValueError, "to 8, but sizes from 1 to 4",
    ),
    "choice text": (lambda: sweep.choice("adam"), TypeError, "values is 'adam', but a list"),
    "choice set": (lambda: sweep.choice({1}), TypeError, r"values is \{1\}, but a list"),
    "choice number": (lambda: sweep.choice(3), TypeError, "values is 3, but a list"),
    "choice nan": (lambda: sweep.choice([NAN, 1.0]), ValueError, r"\(nan, 1.0\), but finite"),
    "choice nested": (lambda: sweep.choice([SPACE["rate"]]), TypeError, "is a distribution, but"),
    "grid": (lambda: sweep.grid("3"), TypeError, "grid: points is '3', but an integer"),
    "random": (lambda: sweep.random(None, 3, 0), TypeError, "distributions is None, but a list"),
    "sobol": (lambda: sweep.sobol([], -1, 0), ValueError, "sobol: trials is -1, but at least 0"),
    "sobol many": (lambda: sweep.sobol([], 2**31, 0), ValueError, "2147483648, but at most 2³⁰"),
    "latin_hypercube": (lambda: sweep.latin_hypercube([], 2, "a"), TypeError, "seed is 'a', but"),
    "grid points": (lambda: sweep.grid()([1.0], None, 0), TypeError, r"distributions is \[1.0\]"),
    "names that clash": (
        lambda: ask({"a.b": 1.0, "a": {"b": 2.0}}), ValueError, "would both be named 'a.b'",
    ),
    "names of kinds": (lambda: ask(ODD_KEYS), TypeError, "keys of several types"),
    # searches
    "freeze_thaw": (lambda: sweep.freeze_thaw(batch=0), ValueError, "freeze_thaw: batch is 0, but"),
    "halving": (lambda: sweep.halving(sampler="random"), TypeError, "sampler is 'random', but a f"),
    "hyperband": (lambda: sweep.hyperband(sampler=sweep.grid), TypeError, r"call it: sweep.grid\("),
    "median": (lambda: sweep.median_stopping(sampler=sweep.halving()), TypeError, "the sampler is "
    ".*Scheduler"),
    "pbt": (lambda: sweep.pbt(sampler=None), TypeError, "pbt: the sampler is None, but a function"),
    "pbt factors": (lambda: sweep.pbt(factors=("a", 1)), ValueError, r"factors is \('a', 1\), but"),
    "descent": (lambda: sweep.descent(sampler=None), TypeError, "descent: the sampler is None"),
    "descent step": (lambda: sweep.descent(step=0), ValueError, "descent: step is 0, but a"),
    "descent metric": (lambda: sweep.descent(metric=1), TypeError, "descent: metric is 1, but"),
    "from_optuna": (lambda: sweep.from_optuna(lambda: 3), TypeError, "a callable that takes seed"),
    "Scheduler without rounds": (
        lambda: run(search=sweep.Scheduler(sweep.random, None)), TypeError, "rounds of all is None",
    ),
    "Scheduler of no round": (lambda: run(search=rounds()), ValueError, "all has no rounds"),
    "Scheduler beyond": (
        lambda: run(search=rounds(np.full(2, 9))), ValueError, "2 integers from 0 to 2",
    ),
    "a sampler of text": (lambda: ask(search=sampler("ab")), TypeError, "of the sampler is 'ab'"),
    "a sampler outside": (
        lambda: ask(search=sampler([[0.5], [3.0]]), trials=2), ValueError, "returned 3.0, .* to 1",
    ),
    "a sampler alone": (lambda: ask(search=lambda: 1), TypeError, r"\(distributions, trials"),
    "AskTell": (lambda: ask(search=sweep.pbt), TypeError, r"call it: sweep\.pbt\(\)"),
    "ask": (lambda: ask(n="a"), TypeError, "ask: n is 'a', but an integer"),
    "tell text": (lambda: tell([0], ["a"]), TypeError, r"scores is \['a'\], but an array of real"),
    "tell complex": (lambda: tell([0], [1j]), TypeError, r"scores is \[1j\]"),
    "tell nothing": (lambda: tell([0], [[]]), ValueError, r"shape \(1, 0\)"),
    # hypergradients
    "hypergradient: trial": (lambda: slope(3), TypeError, "trial is 3, but a function"),
    "hypergradient: no Trainable": (lambda: slope(lambda h: 1), TypeError, "returned int, but a T"),
    "hypergradient: integers": (lambda: slope(hyper={"rate": 1}), ValueError, "hyper holds no f"),
    "hypergradient: a space": (lambda: slope(hyper=SPACE), TypeError, "'rate' is Uniform"),
    "hypergradient: a set": (
        lambda: slope(hyper={"rate": 0.1, "b": {1}}), TypeError, r"'b': \{1\} .* cannot be a sta",
    ),
    "hypergradient: data": (lambda: slope(data=X), ValueError, r"data is .*a pair \(train, valid"),
    "hypergradient: text": (lambda: slope(data=("a", "b")), TypeError, "train is 'a', but"),
    "hypergradient: epochs": (lambda: slope(epochs=0), ValueError, "epochs is 0, but at least 1"),
    "hypergradient: metric": (lambda: slope(metric="f1"), ValueError, r"\['loss'\], but 'f1' is"),
    "hypergradient: metrics": (lambda: slope(metric=["loss"]), TypeError, r"metric is \['loss'\]"),
    "hypergradient: seed": (lambda: slope(seed=-1), ValueError, "hypergradient: seed is -1"),
    "hypergradient: number": (lambda: slope(number=0.5), TypeError, "number is 0.5, but the numb"),
    # coordinate_check
    "coordinate_check: no widths": (
        lambda: sweep.coordinate_check(halve, {"rate": 0.5}, X), ValueError,
        "'width' is None in the space, but several widths",
    ),
    "coordinate_check: epochs": (
        lambda: sweep.coordinate_check(halve, {"width": sweep.choice([1, 2])}, X, epochs=0),
        ValueError, "epochs is 0, but",
    ),
    # run and plan
    "run: a trial of none": (lambda: run(lambda: 1), TypeError, "cannot be called with one point"),
    "plan: metric": (lambda: plan(metric=["loss"]), TypeError, r"metric is \['loss'\], but"),
    "plan: no such metric": (
        lambda: plan(metric="f1"), ValueError, "sweep: metric is 'f1', but `evaluate` returns",
    ),
    "plan: mode": (lambda: plan(mode="most"), ValueError, 'sweep: mode is "?.most.*say with mode='),
    "plan: devices": (lambda: plan(devices=["cpu"]), TypeError, "devices holds 'cpu', but"),
    "run: a device twice": (
        lambda: run(devices=jax.devices()[:1] * 2), ValueError, "devices holds a device twice",
    ),
    "run: seed": (lambda: run(seed=2**70), ValueError, "seed is 1180591620717411303424"),
    "run: keep": (lambda: run(keep="all"), TypeError, "keep is 'all', but an integer"),
    "run: a metric's name": (
        lambda: run(space=SPACE | {"train loss": 1.0}), ValueError, "called 'train loss', as the c",
    ),
    "run: NUL": (lambda: run(space=SPACE | {"a\0": 1.0}), ValueError, "a name that no file can"),
    "run: text": (lambda: run(data=("ab", X)), TypeError, "the data train is 'ab', but an array"),
    "run: none": (lambda: run(data=(X, None)), ValueError, "the validation data is None, but"),
    "run: one number": (lambda: run(data=(X, np.ones(()))), ValueError, "validation is a single n"),
    "run: no functions": (lambda: run(gives(init=None)), TypeError, "init is None, but a function"),
    "run: init()": (lambda: run(gives(init=lambda: 0)), TypeError, r"`init` cannot .* \(key\)"),
    "run: a text": (lambda: run(gives(init=lambda k: {"a": "x"})), TypeError, "state's a is 'x'"),
    "run: a metric of text": (
        lambda: run(gives(evaluate=lambda s, d: {"loss": "x"})), TypeError, "metric 'loss' is 'x'",
    ),
    "run: a metric 3": (
        lambda: run(gives(evaluate=lambda s, d: {3: s})), TypeError, "the result is .*but a dict",
    ),
    "run: a metric i": (
        lambda: run(gives(evaluate=lambda s, d: {"loss": 1j})), TypeError, "is 1j, but one real",
    ),
    # supervised and fit
    "supervised loss": (lambda: supervised(loss="mse"), TypeError, "loss is 'mse', but a function"),
    "supervised loss(y)": (lambda: supervised(loss=lambda y: 1.0), TypeError, r"as loss\(y, t\)"),
    "supervised penalty": (lambda: supervised(penalty=3), TypeError, "penalty is 3, but a func"),
    "supervised metrics": (lambda: supervised(metrics=[3]), TypeError, r"metrics is \[3\], but"),
    "supervised 'loss'": (
        lambda: supervised(metrics={"loss": pn.accuracy}), ValueError, "cannot be named 'loss'",
    ),
    "supervised optimizer": (
        lambda: supervised(optimizer=pn.Optimizer(None, None)), TypeError, r"pair \(init, update\)",
    ),
    "fit: losses": (
        lambda: fit(supervised(loss=lambda y, t: y)), ValueError, r"loss has shape \(2, 2\)",
    ),
    "fit: no loss": (lambda: fit(supervised(loss=lambda y, t: None)), TypeError, "loss is None"),
    "fit: a whole loss": (lambda: fit(supervised(loss=lambda y, t: 1)), TypeError, "loss is 1,"),
    "fit: penalty": (
        lambda: fit(supervised(penalty=lambda w: jnp.ones(2))), ValueError, r"penalty has shape",
    ),
    "fit: metric": (
        lambda: fit(supervised(metrics={"a": lambda y, t: y})), ValueError, r"'a' has shape \(2, 2",
    ),
    "fit: key": (lambda: fit(key=0), TypeError, "fit: the key is 0, but a random key"),
    "fit: keys": (lambda: fit(key=jax.random.split(KEY)), ValueError, "one random key is expected"),
    "fit: objects": (
        lambda: fit(data=((X.astype(object), T),) * 2), TypeError, r"x is an array of object",
    ),
    "fit: words": (lambda: fit(trained(), (X, np.array(["a"]))), TypeError, "data train.1 is"),
    "fit: no pair": (lambda: fit(trained(epoch=lambda s, d: s)), TypeError, r"a pair \(state, "),
    "fit: other state": (
        lambda: fit(trained(lambda k: 0.0, lambda s, d: (X, {}), lambda s, d: {"a": 1.0})),
        ValueError, r"the state as float32\[4, 4\], but `init` as float64\[\]",
    ),
    "fit: a state of text": (lambda: fit(trained(lambda key: "x")), TypeError, "itself is 'x'"),
    "fit: no metrics": (
        lambda: fit(trained(evaluate=lambda s, d: None)), TypeError, "`evaluate`: the result is N",
    ),
    # pictures
    **{
        f"{name} dpi": (draw(name, dpi=0), ValueError, f"{name}: dpi is 0, but a number from 10 to")
        for name in DRAWN
    },
    **{
        f"{name} dpi text": (draw(name, dpi="x"), TypeError, f"{name}: dpi is 'x', but a number")
        for name in DRAWN
    },
    **{
        f"{name} of 3": (draw(name, 3), (TypeError, ValueError), f"{name}: .*(is 3,|shape \\(\\))")
        for name in DRAWN
    },
    **{
        f"{name} limits": (draw(name, limits=3), TypeError, f"{name}: limits is 3, but two numbers")
        for name in ("curves", "curve_grid", "images", "rungs", "lineage")
    },
    **{
        f"{name} back": (draw(name, limits=(1, 0)), ValueError, r"\(1, 0\), but .* the lower first")
        for name in ("curves", "curve_grid", "rungs", "lineage")
    },
    **{
        f"{name} log": (draw(name, log=3), TypeError, f"{name}: log is 3, but a list of names")
        for name in ("slices", "pairwise", "parallel_coordinates", "lineage")
    },
    "curves text": (draw("curves", {"a": "xy"}), TypeError, "the curve 'a' is 'xy', but an array"),
    "curves complex": (draw("curves", {"a": [1j]}), TypeError, r"is \[1j\], but an array of real"),
    "curves ragged": (draw("curves", {"a": [[1, 2], [3]]}), TypeError, "but an array of real"),
    "curves log": (
        draw("curves", limits=(0, 1), y_scale="log"), ValueError, "start at 0, but a log axis",
    ),
    "curves below": (draw("curves", {"a": [-1]}, y_scale="log"), ValueError, "no value is above 0"),
    "curve_grid pairs": (draw("curve_grid", [("a",)]), TypeError, "a list of pairs .title, "),
    "histograms pairs": (draw("histograms", [("a", [1])]), TypeError, "a row is .1., but a list"),
    "images text": (draw("images", [[["a"]]]), TypeError, "the picture is .*real numbers"),
    "images titles": (draw("images", titles=3), TypeError, "titles is 3, but a list of strings"),
    "filters complex": (draw("filters", np.ones((2, 2, 1, 1)) * 1j), TypeError, "complex128"),
    "slices column": (draw("slices", {"a": 3}), TypeError, "the column 'a' is 3, but a list"),
    "pairwise scores": (draw("pairwise", y=["a", "b"]), TypeError, r"scores is \['a', 'b'\]"),
    "rungs levels": (draw("rungs", levels=3), TypeError, "levels is 3, but a list of epochs"),
    "rungs status": (draw("rungs", status="done"), TypeError, "status is 'done', but a list"),
    "lineage numbers": (draw("lineage", numbers=[1]), TypeError, r"numbers is \[1\], but a dict"),
}  # fmt: skip


@pytest.mark.parametrize("mistake, kind, message", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_in_our_own_words(mistake, kind, message):
    with pytest.raises(kind, match=message) as caught:
        mistake()
    assert "/purenet/" in caught.traceback[-1].path.as_posix()  # not from below


# results
@pytest.fixture(scope="module")
def result():
    return run(trials=3, keep=1)


@pytest.fixture(scope="module")
def lost():
    """A result whose trials all diverged."""
    return run(lambda hyper: halve({"rate": hyper["rate"] * jnp.inf}), trials=2)


OF_RESULTS = {
    "trial '0'": (lambda r: r.trial("0"), TypeError, "Result.trial: number is '0', but an integer"),
    "trial -1": (lambda r: r.trial(-1), ValueError, "number is -1, but at least 0"),
    "point 3": (lambda r: r.point(3), ValueError, "Result.point: there is no point 3; .* 0 to 2"),
    "replay None": (lambda r: r.replay(None), TypeError, "Result.replay: number is None"),
    "weights": (lambda r: r.weights(r.ranked()[-1]), ValueError, "were not kept"),
    "best 0": (lambda r: r.best(0), ValueError, "Result.best: n is 0, but at least 1"),
    "table -1": (lambda r: r.table(-1), ValueError, "Result.table: n is -1, but at least 1"),
    "plot n": (lambda r: r.plot("a.png", None), TypeError, "Result.plot: n is None"),
    "plot_map": (lambda r: r.plot_map("a.png", "rate"), TypeError, "names is 'rate', but a tuple"),
    "plot_map alone": (lambda r: r.plot_map("a.png"), ValueError, "there are 1 columns"),
    "plot_lineage": (lambda r: r.plot_lineage("a.png"), ValueError, r"descent\(\) has"),
    "to_csv 3": (lambda r: r.to_csv(3), TypeError, "Result.to_csv: the path is 3"),
    "to_csv folder": (lambda r: r.to_csv("."), IsADirectoryError, "to_csv: . is a folder"),
    "to_csv nowhere": (lambda r: r.to_csv(FILE), FileNotFoundError, "there is no folder no-such"),
    "to_html 3": (lambda r: r.to_html(3), TypeError, "Result.to_html: the path is 3"),
    "to_html folder": (lambda r: r.to_html("."), IsADirectoryError, "to_html: . is a folder"),
    "to_html reload": (lambda r: r.to_html("a.html", reload=0), ValueError, "reload is 0"),
    "few points": (lambda r: r.importances(), ValueError, "importances need 12 points or more"),
    "to_jsonl": (lambda r: r.to_jsonl(b"a"), TypeError, "to_jsonl: the path is b'a'"),
    **{
        f"{name} ending": (lambda r, name=name: getattr(r, name)("a"), ValueError, "ends in ''")
        for name in ("plot", "plot_parallel", "plot_slices", "plot_rungs")
    },
}  # fmt: skip


@pytest.mark.parametrize("mistake, kind, message", OF_RESULTS.values(), ids=OF_RESULTS.keys())
def test_a_mistake_about_a_result_is_told(result, mistake, kind, message):
    with pytest.raises(kind, match=message):
        mistake(result)


def test_where_every_trial_diverged_all_is_said_and_nothing_is_lost(lost, tmp_path):
    assert set(lost.status) == {"diverged"} and lost.ranked() == []
    for draw in (lost.plot, lost.plot_parallel, lost.plot_slices, lost.plot_rungs,
                 lost.plot_history):  # fmt: skip
        with pytest.raises(ValueError, match=r"every trial diverged|must be finite"):
            draw(tmp_path / "a.png")
    with pytest.raises(ValueError, match="every trial diverged"):
        lost.best(2)
    assert "2 of 2 diverged" in lost.table()
    lost.to_html(tmp_path / "a.html")
    lost.to_csv(tmp_path / "a.csv")
    lost.to_jsonl(tmp_path / "a.jsonl")
    for name in ("a.csv", "a.jsonl"):
        assert (tmp_path / name).read_text().count("diverged") == 2
    assert not lost.kept and len(lost.rows()) == 2
    assert np.isnan(lost.replay(0).curves["train"]["loss"]).all()


def test_whole_numbers_that_do_not_fit_are_refused():
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match="which int32 cannot hold; enable jax_enable_x64"),
    ):
        ask({"n": sweep.randint(2**40, 2**40 + 9)})


# the command line
@pytest.mark.parametrize("arguments, message", [
    ([], "arguments are required: command"),
    (["sweep", "--nope"], "unrecognized arguments: --nope"),
    (["sweep", "--trials", "x"], "--trials: invalid int value: 'x'"),
    (["sweep", "--search", "x"], "argument --search: invalid choice: 'x'"),
    (["sweep", "--rate", "1"], "argument --rate: expected 2 arguments"),
    (["sweep", "--seed", str(2**70)], "--seed is 1180591620717411303424, but at most"),
    (["sweep", "--rate", "nan", "1"], "--rate: loguniform: low is nan"),
    (["sweep", "--out", ""], "--out is empty"),
    (["check", "--seed", "-1"], "--seed is -1, but at least 0"),
])  # fmt: skip
def test_the_command_line_ends_with_status_2(arguments, message, monkeypatch):
    monkeypatch.setattr(cli, "use_cpu_cores", lambda: None)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            status = cli.main(arguments)
        except SystemExit as left:
            status = left.code
    assert status == 2 and message in said.getvalue()


# id -> (an odd input, the clean one)
RATES = np.linspace(0.1, 1.0, 8)
WORKS = {
    "shuffle: rows apart": (
        lambda: data.shuffle(KEY, np.repeat(X, 2, axis=1)[:, ::2]), lambda: data.shuffle(KEY, X),
    ),
    "shuffle: a list of keys' numbers": (
        lambda: data.shuffle(jax.random.PRNGKey(0), X), lambda: data.shuffle(KEY, X),
    ),
    "split: a number of NumPy": (
        lambda: data.split(KEY, X, np.int8(1)), lambda: data.split(KEY, X, 1),
    ),
    "one_hot: a list": (lambda: data.one_hot([0, 2], 3), lambda: data.one_hot(np.array([0, 2]), 3)),
    "one_hot: narrow": (lambda: data.one_hot(T.astype(np.uint8), 2), lambda: data.one_hot(T, 2)),
    "uniform: arrays of one": (
        lambda: sweep.uniform(np.array(0.0), jnp.array(1.0)).ppf(RATES),
        lambda: sweep.uniform(0, 1).ppf(RATES),
    ),
    "choice: an array": (
        lambda: ask({"a": sweep.choice(np.array([1.0, 2.0]))}).hyper,
        lambda: ask({"a": sweep.choice([1.0, 2.0])}).hyper,
    ),
    "space: one leaf": (lambda: {"rate": ask(SPACE["rate"]).hyper}, lambda: ask().hyper),
    "devices: an array": (
        lambda: chosen_devices(np.array(jax.devices())),
        lambda: chosen_devices(None),
    ),
    "differences: plain numbers": (
        lambda: differences(lambda t: t[0] ** 2 + t[1], [1.0, 2.0]),
        lambda: differences(lambda t: t[0] ** 2 + t[1], [jnp.array(1.0), jnp.array(2.0)]),
    ),
    "table: tuples": (lambda: gradcheck.table((ROW,)), lambda: gradcheck.table([ROW])),
}  # fmt: skip


@pytest.mark.parametrize("odd, clean", WORKS.values(), ids=WORKS.keys())
def test_what_looks_odd_but_is_meant_works(odd, clean):
    got, expected = (jax.tree.map(lambda a: a if isinstance(a, str | jax.Device) else
                                  np.asarray(a).tolist(), f()) for f in (odd, clean))  # fmt: skip
    assert got == expected


def test_training_takes_arrays_however_they_lie():
    """Backwards, in the order of Fortran, of JAX, of float64 with x64 off, lists in the place of
    tuples: each is one run of the same program on the same numbers."""
    trainable = supervised()

    def trained_on(x, t):
        state, _ = fit(trainable, ((x, t), (x, t)), key=jax.random.PRNGKey(0))
        return np.asarray(state.params.weights["0"]["w"])

    with jax.enable_x64(False):
        expected = trained_on(X, T)
        backwards = np.ascontiguousarray(X[::-1])[::-1]
        for x, t in (
            (np.asfortranarray(X), T),
            (backwards, T.astype(np.int64)),
            (X.astype(np.float64), T),
            (jnp.asarray(X), jnp.asarray(T)),
        ):
            np.testing.assert_array_equal(trained_on(x, t), expected)


def test_every_public_name_is_tried():
    """A new function comes with a row; so does every module's every name."""
    source = inspect.getsource(inspect.getmodule(test_every_public_name_is_tried))
    records = {"Check", "Coordinates", "Hypergradient", "Tolerance", "TOLERANCES", "Worst",
               "Lineage", "Result", "Run", "Trial", "SweepProgress", "Plan", "Sampler",
               "checked_path", "cases", "prepare", "write_tree", "opened",
               "read_tree", "leaf_specs"}  # fmt: skip
    missing = []
    for module in (images, trees, gradcheck_check, plots, sweep):
        for name, value in vars(module).items():
            ours = getattr(value, "__module__", "").startswith(module.__name__.rsplit(".", 0)[0])
            public = not name.startswith("_") and callable(value) and ours
            if public and name not in records and name not in READERS and name not in source:
                missing.append(f"{module.__name__}.{name}")
    assert not missing
