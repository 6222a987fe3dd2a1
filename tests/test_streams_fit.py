"""fit on streamed data: the numbers of data in memory, whatever the chunks, and how it is read."""

import functools

import chex
import jax
import numpy as np
import pytest

import purenet as pn
from purenet.data.feed import Feed
from purenet.data.memory import Memory
from purenet.data.sources import Columns
from purenet.distributed.sharding import Placement
from purenet.training import streamed

N, SIZE = 50, 8  # six minibatches an epoch, and two examples left over
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4)).astype(np.float32)
T = RNG.integers(0, 3, N).astype(np.int32)
VALIDATION = (X[:21], T[:21])
EXAMPLE = sum(a.itemsize * a[0].size for a in (X, T))


def jitter(key, x):
    return x + 0.1 * jax.random.normal(key, x.shape, x.dtype)


NET = pn.serial(pn.dense(8), pn.batch_norm(), pn.relu, pn.dropout(0.3), pn.dense(3))
TRAINABLE = pn.supervised(NET, (4,), pn.adam(0.01), pn.softmax_cross_entropy, SIZE, augment=jitter)
fit = functools.partial(pn.fit, TRAINABLE, progress=False)


def memory_for(minibatches):
    """The budget under which so many minibatches make a chunk."""
    return 4 * minibatches * SIZE * EXAMPLE


def plain(found):
    state = found.state._replace(key=jax.random.key_data(found.state.key))
    return jax.tree.map(np.asarray, (state, found.history))


@pytest.fixture(scope="module")
def memmaps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    maps = []
    for name, a in (("x", X), ("t", T)):
        np.save(folder / f"{name}.npy", a)
        maps.append(np.load(folder / f"{name}.npy", mmap_mode="r"))
    return tuple(maps)


@pytest.mark.parametrize("minibatches", [1, 4, 100])
def test_a_memory_map_gives_the_bits_of_the_array_whatever_the_chunks(key, memmaps, minibatches):
    whole = fit((pn.data.stream((X, T)), VALIDATION), 3, key)
    stream = pn.data.stream(memmaps, memory=memory_for(minibatches))
    chex.assert_trees_all_equal(plain(fit((stream, VALIDATION), 3, key)), plain(whole))


def test_a_streamed_run_takes_the_steps_of_one_in_memory(key):
    streamed = plain(fit((pn.data.stream((X, T)), pn.data.stream(VALIDATION)), 3, key))
    in_memory = plain(fit(((X, T), VALIDATION), 3, key))
    chex.assert_trees_all_close(streamed, in_memory, rtol=1e-4, atol=1e-5)
    assert streamed[0].step == 18


def test_each_device_of_a_mesh_gets_its_rows_and_no_others(key, monkeypatch):
    """With the numbers of one device, up to rounding."""
    mesh = jax.make_mesh((2,), ("batch",))
    net = pn.supervised(pn.mlp(), (4, 8, 3), pn.sgd(0.1), pn.softmax_cross_entropy, SIZE)
    data = pn.data.stream((X, T)), pn.data.stream(VALIDATION)
    given, programs = [], []
    place, train = Placement.batches, streamed._train_chunk

    def placed(self, tree, size):
        found = place(self, tree, size)
        given.append((tree, found))
        return found

    def noted(program):
        def call(*args):
            programs.append(train(program).lower(*args).compile().as_text())
            return train(program)(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Placement, "batches", placed)
        patch.setattr(streamed, "_train_chunk", noted)
        spread = plain(pn.fit(net, data, 2, key, mesh=mesh, progress=False))
    alone = plain(pn.fit(net, data, 2, key, progress=False))
    chex.assert_trees_all_close(spread, alone, rtol=1e-5, atol=1e-6)
    for tree, found in given:
        for whole, a in zip(jax.tree.leaves(tree), jax.tree.leaves(found), strict=True):
            for number, shard in enumerate(a.addressable_shards):
                mine = slice(number * SIZE // 2, (number + 1) * SIZE // 2)
                assert shard.device == mesh.devices[number]
                np.testing.assert_array_equal(shard.data, whole[:, mine])
    # nor are they put together inside the program, which holds those of one device
    assert len(given) == 4 and "f32[6,4,4]" in programs[0]
    assert not any("f32[6,8,4]" in text or "f32[48,4]" in text for text in programs)


def test_microbatches_and_a_run_that_began_in_memory(key, tmp_path):
    net = pn.supervised(
        pn.mlp(), (4, 8, 3), pn.sgd(0.1), pn.softmax_cross_entropy, SIZE, microbatches=2
    )
    fit = functools.partial(pn.fit, net, key=key, progress=False)
    fit(((X, T), VALIDATION), 1, path=tmp_path / "run.npz")
    found = fit((pn.data.stream((X, T)), VALIDATION), 2, path=tmp_path / "run.npz")
    whole = fit(((X, T), VALIDATION), 2)
    chex.assert_trees_all_close(plain(found), plain(whole), rtol=1e-4, atol=1e-5)


# reading
def test_rows_are_read_straight_into_their_place_where_the_layout_allows_it(memmaps):
    rows = np.array([7, 0, 49, 7])
    straight = X, memmaps[0]
    other = X[::-1], np.asfortranarray(X), X.astype(">f4"), X.astype(np.float64)
    for column in straight + other:
        place = np.full((4, 4), 9, np.float32)
        found = Columns(column).read(rows, place)
        assert (found is place) == any(column is each for each in straight)
        np.testing.assert_array_equal(found, column[rows])


def test_memory_is_not_lent_again_while_a_view_or_a_device_holds_it():
    memory, shape = Memory(), (64, 64)
    first = memory.array(shape, np.dtype(np.float32))
    first[:] = 1
    place, on_device = first.ctypes.data, jax.device_put(first.reshape(16, -1))
    assert on_device.unsafe_buffer_pointer() == place  # used without a copy
    del first
    other = memory.array(shape, np.dtype(np.float32))
    other[:] = 2
    view = other[3:].T
    del other
    third = memory.array(shape, np.dtype(np.float32))
    third[:] = 3
    assert (np.asarray(on_device) == 1).all() and (view == 2).all()
    del view
    fourth = memory.array((64 * 64,), np.dtype(np.int32))
    assert fourth.ctypes.data != place and (third == 3).all() and fourth.view(np.float32)[-1] == 2


def test_a_chunk_of_arrays_is_read_at_once_and_one_that_fails_by_minibatch():
    asked = []

    class Column:
        shape, dtype = X.shape, X.dtype

        def __getitem__(self, rows):
            asked.append(len(rows))
            return X[rows]

    with Feed("fit", pn.data.stream((Column(), T), memory=memory_for(3)), SIZE, 1) as feed:
        asked.clear()
        feed.seek(0, 0)
        assert feed.next().count == 3
    assert asked[0] == 3 * SIZE
    broken = X.copy()
    broken[2 * SIZE] = np.nan
    with Feed("fit", pn.data.stream((broken, T), memory=memory_for(3)), SIZE, 1) as feed:
        feed.seek(0, 0)
        assert feed.next().count == 2
        with pytest.raises(ValueError, match=r"in example 16; epoch 1, minibatch 3 of 7"):
            feed.next()


def test_a_chunk_is_a_part_of_the_budget_and_not_much():
    wide = np.broadcast_to(np.float32(0), (10**6, 1000))
    assert pn.data.stream(wide).chunk(100, 10**4) == 20  # 8 MiB
    assert pn.data.stream(wide, memory=2**24).chunk(100, 10**4) == 10


def test_the_order_of_an_epoch_is_asked_for_before_the_one_before_it_is_read():
    asked = []

    def order(epoch):
        asked.append((epoch, source.reads))
        return np.arange(N)[::-1]

    class Source:
        reads = 0

        def __len__(self):
            return N

        def __getitem__(self, i):
            self.reads += 1
            return X[i], T[i]

    source = Source()
    with Feed("fit", pn.data.stream(source), SIZE, 2, order) as feed:
        feed.seek(0, 0)
        chunks = [feed.next(), feed.next()]
    assert asked == [(0, N), (1, N)]  # a first look reads all of them
    for chunk in chunks:
        np.testing.assert_array_equal(chunk.batches[0].reshape(-1, 4), X[::-1][:48])


class Endless:
    """Minibatches of the same examples."""

    def __iter__(self):
        return self

    def __next__(self):
        return X[:SIZE], T[:SIZE]

    def get_state(self):
        return 0

    def set_state(self, state):
        pass


def test_a_share_of_a_minibatch():
    share = np.array([1, 2, 7])
    with Feed("fit", pn.data.stream((X, T)), SIZE, 1, share=share) as feed:
        feed.seek(0, 0)
        chunk = feed.next()
    assert chunk.count == 7 and chunk.examples == N and chunk.batches[0].shape == (7, 3, 4)
    np.testing.assert_array_equal(chunk.batches[0][:6], X[:48].reshape(6, SIZE, 4)[:, share])
    # of the last minibatch, which is short, only one example is there
    np.testing.assert_array_equal(chunk.batches[0][6], np.stack([X[49], 0 * X[0], 0 * X[0]]))
    endless = pn.data.stream(Endless(), steps_per_epoch=2)
    with Feed("fit", endless, SIZE, 1, share=share) as feed:
        feed.seek(0, 0)
        np.testing.assert_array_equal(feed.next().batches[1], [T[share], T[share]])
