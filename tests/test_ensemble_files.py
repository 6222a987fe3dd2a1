"""Ensembles in files: what comes back predicts the same, and what cannot be saved is said."""

import functools
import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forks import run

import purenet as pn
from purenet import checkpoint, sweep
from purenet.checkpoint import npz
from purenet.core.ensemble import Member, ensemble

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 3))
LABELS, REALS = RNG.integers(0, 2, 7), RNG.normal(size=(7, 1))


def voters(of, numbers, weights=(1, 2, 1)):
    """An ensemble of untrained networks `of(*own)`, whose own numbers are traced; of those that are
    plain Python numbers, each has a group."""
    groups, members = [], []
    for i, own in enumerate(numbers):
        static = tuple(a for a in own if isinstance(a, int))
        if static not in groups:
            groups.append(static)
        traced = tuple(jnp.asarray(a) for a in own if not isinstance(a, int))
        predictor = functools.partial(predictor_of, of, static)
        state = of(*traced, *static).init(jax.random.key(i))
        members.append(Member(10 + i, groups.index(static), predictor, traced, state))
    first = members[0]
    scorer = of(*first.numbers, *groups[0]).score
    return ensemble(members, weights, scorer)


def predictor_of(of, static, numbers):
    return of(*numbers, *static).predict


def trainable(net, sizes, loss, **more):
    return pn.supervised(net, sizes, pn.adam(0.1), loss, **({"batch_size": 4} | more))


def sloped(slope, **more):
    return pn.mlp(functools.partial(pn.leaky_relu, slope=slope * 2), **more)


SMOOTH = functools.partial(pn.softmax_cross_entropy, smoothing=0.1)
NETWORKS = {
    "softmax": (
        lambda slope: trainable(sloped(slope), (3, 4, 2), SMOOTH, metrics={"f1": pn.metrics.f1}),
        [(0.1,), (0.2,), (0.3,)], LABELS,
    ),
    "regression": (
        lambda delta: trainable(pn.dense(1), 3, functools.partial(pn.huber, delta=delta)),
        [(0.1,), (0.1,), (0.1,)], REALS,
    ),
    "binary, with class weights": (
        lambda: trainable(pn.dense(1), 3, pn.sigmoid_binary_cross_entropy, weights=[1.0, 3.0]),
        [(), (), ()], LABELS[:, None],
    ),
    "batch norm and dropout": (
        lambda rate: trainable(pn.mlp(batch_norm=True, dropout=rate), (3, 4, 2), SMOOTH),
        [(0.1,), (0.2,), (0.3,)], LABELS,
    ),
    "padded widths, depths and batches": (
        lambda width, depth: trainable(
            pn.mlp(depth=pn.PaddedSize(depth, 2)),
            (3, *[pn.PaddedSize(width, 5)] * 2, 2),
            SMOOTH,
            batch_size=pn.PaddedSize(width, 5),
        ),
        [(2, 1), (5, 2), (3, 2)],
        LABELS,
    ),
    "several depths": (
        lambda slope, depth: trainable(sloped(slope), (3, *[4] * depth, 2), SMOOTH),
        [(0.1, 2), (0.2, 1), (0.3, 2)], LABELS,
    ),
    "bfloat16": (
        lambda slope: trainable(sloped(slope, compute_dtype="bfloat16"), (3, 4, 2), SMOOTH),
        [(np.float32(0.1),), (np.float32(0.2),), (np.float32(0.3),)], LABELS,
    ),
}  # fmt: skip


def traced(numbers):
    """Padded sizes are numbers of the members, not of groups."""
    return [tuple(np.int32(a) if isinstance(a, int) else a for a in own) for own in numbers]


@pytest.mark.parametrize(
    "name, x64", [*((name, True) for name in NETWORKS), ("softmax", False), ("bfloat16", False)]
)
def test_an_ensemble_comes_back(name, x64, tmp_path):
    of, numbers, targets = NETWORKS[name]
    with jax.enable_x64(x64):
        saved = voters(of, traced(numbers) if "padded" in name else numbers)
        path = tmp_path / f"voters{'.safetensors' if x64 else '.npz'}"
        pn.save_ensemble(path, saved, metadata={"name": name})
        loaded = pn.load_ensemble(path)
        assert repr(loaded) == repr(saved) and loaded.trials == saved.trials
        assert loaded.weights.tolist() == saved.weights.tolist()
        assert checkpoint.load_metadata(path) == {"name": name}
        expected = np.asarray(saved.predict(X))
        assert loaded.weights.dtype == (np.float64 if x64 else np.float32)
        assert np.asarray(loaded.predict(X)).tobytes() == expected.tobytes()
        assert loaded.score((X, targets)) == saved.score((X, targets))
        again = tmp_path / f"again{path.suffix}"
        pn.save_ensemble(again, loaded, metadata={"name": name})
        assert again.read_bytes() == path.read_bytes()


def test_one_description_serves_all_members_of_a_group(tmp_path):
    of, numbers, _ = NETWORKS["several depths"]
    pn.save_ensemble(tmp_path / "voters.npz", voters(of, numbers))
    with zipfile.ZipFile(tmp_path / "voters.npz") as file:
        groups = json.loads(file.read("metadata.json"))["ensemble"]["groups"]
        names = file.namelist()
    assert [group["members"] for group in groups] == [2, 1]
    assert [group["numbers"] for group in groups] == [["float64"], ["float64"]]
    assert "groups.0.params.weights.0.w.npy" in names and not [n for n in names if "opt_state" in n]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The arrays and the text of a file."""
    path = tmp_path_factory.mktemp("written") / "voters.npz"
    pn.save_ensemble(path, voters(*NETWORKS["softmax"][:2]))
    with npz.opened("test", path) as file:
        return {name: file.read(name) for name in file.names}, file.text


# of a sweep, in another process
LOADED = """
import sys, numpy as np, purenet as pn
found = pn.load_ensemble(sys.argv[1])
net, sizes, params = pn.load_network(sys.argv[2])
data = pn.load(sys.argv[3], {"x": np.zeros((24, 3)), "t": np.zeros(24, int)})
np.savez(sys.argv[4], y=found.predict(data["x"]), best=pn.predict(net, params, data["x"]),
         score=list(found.score((data["x"], data["t"])).items()))
print(found)
"""


def test_the_voters_of_a_resumed_sweep_predict_in_another_process(tmp_path):
    x = RNG.normal(size=(24, 3))
    t = (x[:, 0] > 0).astype(int)

    def trial(hyper):
        net = pn.serial(pn.dropout(hyper["dropout"]), pn.dense(2))
        return trainable(net, 3, pn.softmax_cross_entropy, batch_size=8)

    space = {"dropout": sweep.uniform(0.0, 0.5)}
    search = lambda: sweep.run(trial, space, (x, t), 3, 2, folds=2, keep=3, progress=False,
                               path=tmp_path / "sweep", patience=2, select="best")  # fmt: skip
    search()
    result = search()  # from the folder: nothing is trained
    chosen = result.ensemble("greedy", size=4)
    files = [tmp_path / f"{name}.npz" for name in ("voters", "best", "data", "found")]
    pn.save_ensemble(files[0], chosen)
    pn.save_network(files[1], *result.network())
    pn.save(files[2], {"x": x, "t": t})
    config = {"jax_enable_x64": True, "jax_num_cpu_devices": 2}
    done = run("-c", LOADED, *files, config=config)
    assert done.code == 0, done.err
    assert done.out.strip() == repr(chosen)
    with np.load(files[3]) as found:
        assert found["y"].tobytes() == np.asarray(chosen.predict(x)).tobytes()
        assert {name: float(value) for name, value in found["score"]} == chosen.score((x, t))
        best = pn.softmax(jnp.asarray(found["best"]))
    np.testing.assert_allclose(best, result.predict(x, result.best()), rtol=1e-12)
    assert len(chosen) % 2 == 0  # both folds of each point


# what cannot be saved, or lacks a name
def double(x):
    return 2 * x


def half(y, t):
    return ((y - t) ** 2).mean() / 2


def test_what_is_the_users_own_needs_a_name(tmp_path):
    path = tmp_path / "voters.npz"
    of = lambda: trainable(pn.serial(pn.dense(1), double), 3, half, metrics={"half": half})
    saved = voters(of, [(), (), ()])
    with pytest.raises(ValueError, match=r"save_ensemble: .*double.*registry=\{'double'"):
        pn.save_ensemble(path, saved)
    assert not path.exists()
    pn.save_ensemble(path, saved, {"double": double})
    loaded = pn.load_ensemble(path, {"double": double})
    assert np.array_equal(loaded.predict(X), saved.predict(X))
    with pytest.raises(ValueError, match=r"saved without.*the loss is .*half.*registry.*Compare"):
        loaded.score((X, REALS))
    pn.save_ensemble(path, saved, {"double": double, "half": half})
    with pytest.raises(ValueError, match=rf"load_ensemble: {path}: .*'double', which is unknown"):
        pn.load_ensemble(path)
    loaded = pn.load_ensemble(path, {"double": double, "half": half})
    assert loaded.score((X, REALS)) == saved.score((X, REALS))


def own(rate):
    return pn.Trainable(init=lambda key: rate, epoch=lambda s, d: (s, {}), evaluate=lambda s, d: {},
                        predict=lambda state, x: state * x)  # fmt: skip


def wide():
    """Its params are not those of the network that is described."""
    made = trainable(pn.dense(1), 3, half)
    init = lambda key: made.init(key)._replace(params=pn.dense(2).init(key, 3))
    return made._replace(init=init)


@pytest.mark.parametrize("call, error, message", [
    (lambda path: pn.save_ensemble(path, 3), TypeError, "ensemble is 3, but an Ensemble"),
    (lambda path: pn.save_ensemble(path, voters(own, [(0.1,)] * 3)), ValueError,
     r"by the function <lambda>, code that a file cannot hold; train by `supervised`"),
    (lambda path: pn.save_ensemble(path, voters(wide, [()] * 3)), ValueError,
     r"params: the leaf params\.weights\.b is float64 \(3, 2\), but float64 \(3, 1\)"),
    (lambda path: pn.save(path, voters(wide, [()] * 3)), TypeError, "pn.save_ensemble"),
    (lambda path: pn.save_ensemble(path, voters(wide, [()] * 3), half), TypeError, "registry is"),
])  # fmt: skip
def test_what_cannot_be_saved_is_said(tmp_path, call, error, message):
    with pytest.raises(error, match=message):
        call(tmp_path / "voters.npz")
    assert not [*tmp_path.iterdir()]


# foreign files and missing arrays
def test_each_kind_of_file_says_how_it_is_read(tmp_path, written):
    path, other = tmp_path / "voters.npz", tmp_path / "net.npz"
    path.write_bytes(npz.write(*written))
    net = pn.dense(2)
    pn.save_network(other, net, 3, net.init(jax.random.key(0), 3))
    with pytest.raises(ValueError, match=f"{other} holds no ensemble: read a network with `load_n"):
        pn.load_ensemble(other)
    with pytest.raises(ValueError, match=f"{path} holds no network.* read it with `load_ensemble`"):
        pn.load_network(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        pn.load_ensemble(tmp_path / "nothing.npz")


@pytest.mark.parametrize("change, message", [
    (lambda found: found["groups"].clear(), "is damaged: its ensemble is"),
    (lambda found: found["trials"].append(3), "is damaged: its ensemble is"),
    (lambda found: found["groups"][0].update(link="eval"), "is damaged"),
    (lambda found: found["groups"][0].update(numbers=["object"]), "is damaged"),
    (lambda found: found["groups"][0]["network"].update(layer="eval"), "'eval', which is"),
    (lambda found: found["groups"][0].update(sizes=[3, 5, 2]), r"b is float64 \(3, 4\), but"),
    (lambda found: found["groups"][0].update(sizes=3), "cannot be initialised for sizes 3: V"),
    (lambda found: found["scoring"].update(loss={"function": "eval"}), "the loss is the function"),
    (lambda found: found["scoring"].update(loss=None), "the loss is None, but"),
    (lambda found: found["scoring"].update(class_weights=[[2, "float64"]]), "weights.0, float64"),
])  # fmt: skip
def test_what_is_wrong_with_a_description_is_said(tmp_path, written, change, message):
    path = tmp_path / "voters.npz"
    document = json.loads(written[1])
    change(document["ensemble"])
    path.write_bytes(npz.write(written[0], json.dumps(document)))
    with pytest.raises(ValueError, match=message) as caught:
        pn.load_ensemble(path)
    assert f"load_ensemble: {path}" in str(caught.value)


def test_a_missing_array_is_named(tmp_path, written):
    path, (arrays, text) = tmp_path / "voters.npz", written
    name = "groups.0.params.weights.0.w"
    path.write_bytes(npz.write({n: a for n, a in arrays.items() if n != name}, text))
    with pytest.raises(ValueError, match=rf"load_ensemble: {path}: the leaf {name}, .* is missing"):
        pn.load_ensemble(path)
