"""Streams: what they are read from, what goes wrong there, and that a run resumes after it."""

import functools
import gc
import os
import signal
import threading
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet.data import feed as feeding

X = np.random.default_rng(0).normal(size=(22, 3)).astype(np.float32)
T = np.arange(22, dtype=np.int32) % 2
SIZE = 4  # five minibatches an epoch


def steps(state, chunk):
    """Weights that depend on every example and on the order of the minibatches."""

    def one(w, minibatch, i):
        x, t = minibatch
        w = 0.9 * w + x.mean(0) * (1 + t.mean(dtype=x.dtype))
        return w, {"loss": w.sum()}

    w, metrics = chunk.each(one, state["w"])
    return {"w": w, "epoch": state["epoch"]}, metrics


def init(key):
    return {"w": jax.random.normal(key, (3,), jnp.float32), "epoch": jnp.int32(0)}


def evaluate(state, data):
    return {"loss": abs(data[0] @ state["w"]).mean()}


TOY = pn.Trainable(
    init,
    lambda state, data: (state, {"loss": 0.0}),
    evaluate,
    predict=lambda state, x: x @ state["w"],
    score=lambda y, t: {"loss": abs(y).mean()},
    steps=steps,
    batch_size=SIZE,
)
VALIDATION = (X[:7], T[:7])
TINY = 4 * 2 * SIZE * 16  # memory for chunks of two minibatches
fit = functools.partial(pn.fit, TOY, progress=False)
stream = functools.partial(pn.data.stream, memory=TINY)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [t for t in threading.enumerate() if t.name == "purenet-stream" and t.is_alive()]


class MapStyle:
    """A data set as PyTorch's are."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        if not isinstance(i, int):
            raise TypeError("one index at a time")
        return X[i], T[i]


class Batched(MapStyle):
    def __getitems__(self, rows):
        return [super(Batched, self).__getitem__(i) for i in rows]


class Saveable:
    """Minibatches without an end, in an order of its own; iterators can be saved."""

    def __init__(self, fault=None, last=10**9):
        self.fault, self.last = fault, last

    def __iter__(self):
        return SaveableIterator(self)


class SaveableIterator:
    def __init__(self, source):
        self.source, self.i = source, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.i == self.source.last:
            raise StopIteration
        rows = np.random.default_rng(self.i).permutation(len(X))[:SIZE]
        self.i += 1
        found = X[rows], T[rows]
        return self.source.fault(self.i, found) if self.source.fault else found

    def get_state(self):
        return {"next": self.i}

    def set_state(self, state):
        self.i = state["next"]


def same(found, expected):
    chex.assert_trees_all_equal(found.state, expected.state)
    chex.assert_trees_all_equal(found.history, expected.history)
    assert found.epoch == expected.epoch


@pytest.fixture(scope="module")
def whole():
    return fit((stream((X, T)), VALIDATION), 4, jax.random.key(0))


@pytest.mark.parametrize("source", [MapStyle, Batched])
def test_a_data_set_that_is_read_by_index_gives_the_numbers_of_its_arrays(key, whole, source):
    same(fit((stream(source()), VALIDATION), 4, key), whole)


def test_streamed_validation_is_measured_on_all_outputs(key, whole):
    found = fit((stream((X, T)), stream(VALIDATION)), 4, key)
    chex.assert_trees_all_equal(found.state, whole.state)
    chex.assert_trees_all_close(found.history, whole.history, rtol=1e-6)


def test_training_data_in_memory_beside_a_streamed_part_is_streamed_too(key):
    both = fit((stream((X, T)), stream(VALIDATION)), 2, key)
    same(fit(((X, T), stream(VALIDATION)), 2, key), both)


def test_examples_are_prepared_on_their_way(key, whole):
    doubled = {"image": 2 * X.astype(np.float64), "label": T.astype(np.int8)}
    prepare = lambda m: (np.float32(m["image"] / 2), m["label"].astype(np.int32))
    same(fit((stream(doubled, prepare=prepare), VALIDATION), 4, key), whole)


@pytest.mark.parametrize("options", [{"patience": 1}, {"evaluate_every": 2, "select": "best"}])
def test_patience_and_the_best_epoch(key, whole, options):
    options = options | {"metric": "loss", "mode": "max"}
    found = fit((stream((X, T)), VALIDATION), 4, key, **options)
    losses = whole.history["validation"]["loss"]
    every = options.get("evaluate_every", 1)
    seen = np.where(np.arange(1, 5) % every == 0, losses, np.nan)
    trained = len(found.history["validation"]["loss"])
    np.testing.assert_array_equal(found.history["validation"]["loss"], seen[:trained])
    best = int(np.nanargmax(seen[:trained])) + 1
    assert found.epoch == best
    chex.assert_trees_all_equal(found.state, fit((stream((X, T)), VALIDATION), best, key).state)


# resuming
class Broken(Exception):
    pass


class Failing(MapStyle):
    """Fails at its n-th read, counted from the first after it is looked at."""

    def __init__(self, after):
        self.left = after

    def __getitem__(self, i):
        self.left -= 1
        if self.left == 0:
            raise Broken("the disk is gone")
        return super().__getitem__(i)


@pytest.mark.parametrize("minibatch", [1, 2, 8, 13])
def test_an_error_of_the_source_ends_the_run_which_resumes_at_that_minibatch(
    key, whole, tmp_path, minibatch
):
    path = tmp_path / "run.npz"
    failing = Failing(after=len(X) + SIZE * (minibatch - 1) + 1)
    data = stream(failing)
    with pytest.raises(Broken, match="the disk is gone") as error:
        fit((data, VALIDATION), 4, key, path=path)
    epoch, place = divmod(minibatch - 1, 5)
    note = f"epoch {epoch + 1}, minibatch {place + 1} of 5"
    assert note in " ".join(error.value.__notes__)
    saved = pn.checkpoint.load_metadata(path)["fit"]
    assert (saved["epochs"], saved["stream"]["at"]) == (epoch, place)
    failing.left = 0
    same(fit((data, VALIDATION), 4, key, path=path), whole)
    same(fit((data, VALIDATION), 4, key, path=path), whole)
    if place:
        with pytest.raises(ValueError, match="holds a run after minibatch"):
            fault_file(path, key, data, epoch)


def test_an_error_leaves_no_file_open(key, tmp_path):
    np.save(tmp_path / "x.npy", X)
    counts = []
    for _ in range(2):
        failing = Failing(after=len(X) + SIZE + 1)
        mapped = stream((np.load(tmp_path / "x.npy", mmap_mode="r"), T))
        with pytest.raises(Broken):
            fit((stream(failing), mapped), 1, key, path=tmp_path / "run.npz")
        (tmp_path / "run.npz").unlink()
        del mapped, failing
        gc.collect()  # the traceback
        counts.append(len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0)
    assert counts[0] == counts[1]


def fault_file(path, key, data, epoch):
    path.unlink()
    data.source.dataset.left = SIZE * 2 + 1
    with pytest.raises(Broken):
        fit((data, VALIDATION), 4, key, path=path)
    other = TOY._replace(batch_size=SIZE - 1)
    pn.fit(other, (stream((X, T)), VALIDATION), 4, key, path=path, progress=False)


def test_an_iterator_resumes_from_its_own_state(key, tmp_path):
    plain = fit((stream(Saveable(), steps_per_epoch=3), VALIDATION), 3, key)
    assert not np.array_equal(plain.history["train"]["loss"][0], plain.history["train"]["loss"][1])

    def fault(i, found):
        if i == 6 and not done:
            raise Broken
        return found

    done, path = [], tmp_path / "run.npz"
    source = stream(Saveable(fault), steps_per_epoch=3)
    with pytest.raises(Broken):
        fit((source, VALIDATION), 3, key, path=path)
    assert pn.checkpoint.load_metadata(path)["fit"]["stream"]["loader"] == {"json": {"next": 5}}
    done.append(True)
    same(fit((source, VALIDATION), 3, key, path=path), plain)


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_run_is_saved_in_the_midst_of_an_epoch_when_it_is_interrupted(
    key, whole, tmp_path, chunk
):
    class Slow(MapStyle):
        reads = 0

        def __getitem__(self, i):
            Slow.reads += 1
            if Slow.reads == len(X) + 7 * SIZE:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)
            return super().__getitem__(i)

    path, data = tmp_path / "run.npz", stream(Slow(), memory=TINY // 2 * chunk)
    with pytest.raises(KeyboardInterrupt):
        fit((data, VALIDATION), 4, key, path=path)
    assert pn.checkpoint.load_metadata(path)["fit"]["epochs"] < 4
    same(fit((data, VALIDATION), 4, key, path=path), whole)


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("saved", [True, False])
def test_ctrl_c_works_while_the_source_is_waited_for(key, tmp_path, saved, part, monkeypatch):
    free = threading.Event()

    class Stuck(MapStyle):
        reads = 0

        def __getitem__(self, i):
            self.reads += 1
            if self.reads == len(X) + 1:  # the first that is read ahead
                os.kill(os.getpid(), signal.SIGINT)
                free.wait(20)
            return super().__getitem__(i)

    path = tmp_path / "run.npz" if saved else None
    data = stream(Stuck())
    assert data.examples == len(data.first[1]) == 22
    parts = (data, VALIDATION) if part == "train" else (stream((X, T)), data)
    monkeypatch.setattr(feeding, "_PATIENCE", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(parts, 4, key, path=path)
    assert not free.is_set()
    free.set()
    for thread in threading.enumerate():
        if thread.name == "purenet-stream":
            thread.join(5)
    if saved:
        at = pn.checkpoint.load_metadata(path)["fit"]["stream"]["at"]
        assert at == (0 if part == "train" else 5)


# minibatches that cannot be trained on
def cut(i, found):
    return (found[0][:3], found[1][:3])


def wide(i, found):
    return (found[0].astype(np.float16), found[1])


def nan(i, found):
    return (np.where(np.arange(SIZE)[:, None] == 2, np.nan, found[0]).astype(np.float32), found[1])


def alone(i, found):
    return found[0]


@pytest.mark.parametrize(
    "fault, message",
    [
        (cut, r"leaf 0 of the stream gave a minibatch of float32\[3, 3\], but float32\[4, 3\]"),
        (wide, r"leaf 0 of the stream gave a minibatch of float16\[4, 3\], but float32\[4, 3\]"),
        (nan, "gave a number that is not finite in example 2 of the minibatch"),
        (alone, "gave a minibatch of another structure"),
    ],
)
def test_a_bad_minibatch_is_named(key, fault, message):
    spoil = lambda i, found: fault(i, found) if i == 5 else found
    with pytest.raises(ValueError, match=f"{message}.*epoch 2, minibatch 2 of 3"):
        fit((stream(Saveable(spoil), steps_per_epoch=3), VALIDATION), 3, key)


def test_a_source_that_ends_early_is_told_of(key):
    with pytest.raises(ValueError, match=r"ended before epoch 2, minibatch 3 of 3.*\.repeat"):
        fit((stream(Saveable(last=5), steps_per_epoch=3), VALIDATION), 3, key)


def test_the_row_of_a_number_that_is_not_finite_is_named(key):
    bad = X.copy()
    bad[17, 1] = np.inf
    with pytest.raises(ValueError, match="in example 17; epoch 1, minibatch"):
        fit((stream((bad, T)), VALIDATION), 4, key)


def test_an_error_in_the_validation_data_is_not_lost_and_resumes(key, tmp_path, whole):
    path, failing = tmp_path / "run.npz", Failing(after=10**6)
    data = (stream((X, T)), stream(failing))
    expected = fit(data, 4, key)
    failing.left = len(X) + 5  # in the second evaluation
    with pytest.raises(Broken):
        fit(data, 4, key, path=path)
    saved = pn.checkpoint.load_metadata(path)["fit"]
    assert (saved["epochs"], saved["stream"]["at"]) == (1, 5)
    failing.left = 0
    same(fit(data, 4, key, path=path), expected)


# what is refused
def test_what_cannot_be_streamed_is_refused(key):
    with pytest.raises(TypeError, match=r"no `steps\(state, chunk\)`"):
        pn.fit(TOY._replace(steps=None), (stream((X, T)), VALIDATION), 1, key)
    with pytest.raises(ValueError, match="22 examples, fewer than one minibatch of 23"):
        pn.fit(TOY._replace(batch_size=23), (stream((X, T)), VALIDATION), 1, key)
    with pytest.raises(ValueError, match="minibatches have 4 examples, but the batch size is 5"):
        data = stream(Saveable(), steps_per_epoch=3)
        pn.fit(TOY._replace(batch_size=5), (data, VALIDATION), 1, key)
    with pytest.raises(TypeError, match="streamed, but this Trainable has no `predict`"):
        pn.fit(TOY._replace(predict=None), (stream((X, T)), stream((X, T))), 1, key)
    with pytest.raises(TypeError, match="an iterable has no length"):
        stream(Saveable())
    with pytest.raises(ValueError, match="22 examples, which an epoch passes over once"):
        stream((X, T), steps_per_epoch=3)
    with pytest.raises(ValueError, match="same number of examples"):
        stream((X, T[:3]))
    with pytest.raises(TypeError, match="has no get_state and set_state"):
        stream(map(abs, [1]), steps_per_epoch=1)
    with pytest.raises(TypeError, match="an iterable of minibatches is expected"):
        stream(3)


def test_padded_minibatches_and_replacement_are_not_streamed(key):
    make = functools.partial(
        pn.supervised, pn.dense(2), (3,), pn.sgd(0.1), pn.softmax_cross_entropy
    )
    assert make(4).batch_size == 4
    for other in make(pn.PaddedSize(3, 4)), make(4, batches="with_replacement"):
        with pytest.raises(TypeError, match="where batches are shuffled and of a plain size"):
            pn.fit(other, (stream((X, T)), VALIDATION), 1, key)
