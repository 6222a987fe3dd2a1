"""One model on a mesh of devices: the numbers of one device, and what the compiled program sends.

The suite runs with two host devices, see conftest.py.
"""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import purenet as pn
from purenet.distributed.mesh import shard_batch
from purenet.distributed.sharding import placement
from purenet.training import fit as training
from purenet.training.stopping import Scoring

rng = np.random.default_rng(0)
x, t = rng.normal(size=(23, 6)), rng.integers(0, 3, 23)
DATA = ((x, t), (x[:9], t[:9]))  # 9 are not divided by 2
rows = jax.make_mesh((2,), ("rows",))


def make(net=None, sizes=(6, 8, 3), batch_size=10, optimizer=None, **options):
    net = pn.mlp(batch_norm=True, dropout=0.2) if net is None else net
    optimizer = pn.adam(1e-2) if optimizer is None else optimizer
    loss = pn.softmax_cross_entropy
    return pn.supervised(net, sizes, optimizer, loss, batch_size=batch_size, **options)


def assert_close(got, expected, rtol=1e-10, atol=1e-9):
    """To rounding. A bias before batchnorm has no gradient but rounding, which Adam makes much of;
    hence atol. Accuracy is a mean in float32."""
    of = lambda fit: (fit.state._replace(key=jax.random.key_data(fit.state.key)), fit.history)
    got, expected = jax.device_get((of(got), of(expected)))
    for part in (*got[1].values(), *expected[1].values()):
        part.update(accuracy=np.round(part["accuracy"], 5))
    chex.assert_trees_all_close(got, expected, rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def mlp():
    """Batchnorm, dropout and Adam, and a run of it on one device."""
    trainable = make()
    return trainable, pn.fit(trainable, DATA, 4, jax.random.key(0))


def columns_of_the_first(name, leaf):
    return P(None, "model") if name.endswith(".0.w") else P()


@pytest.mark.parametrize(
    "mesh, shard, block",
    [
        (rows, None, None),
        (rows, None, 3),
        (jax.make_mesh((1, 2), ("rows", "model")), columns_of_the_first, 1),
    ],
    ids=["rows", "rows, blocks of 3", "columns of a matrix"],
)
def test_a_mesh_gives_the_numbers_of_one_device(mlp, mesh, shard, block):
    trainable, expected = mlp
    got = pn.fit(trainable, DATA, 4, jax.random.key(0), block=block, mesh=mesh, shard=shard)
    assert_close(got, expected)
    first = got.state.params.weights["0"]["w"]
    assert first.sharding.device_set == set(mesh.devices.flat)
    assert first.sharding.spec == (P() if shard is None else P(None, "model"))
    assert got.state.opt_state.mean["0"]["w"].sharding == first.sharding


def test_the_number_of_devices_need_not_divide_the_batch():
    """Means over the rows that are there: batchnorm would notice one of padding. In float32."""
    trainable = make(pn.mlp(batch_norm=True), batch_size=7, optimizer=pn.sgd(0.1))
    data = (x.astype(np.float32), t.astype(np.int32))
    with jax.enable_x64(False):
        key = jax.random.key(0)
        got, expected = (pn.fit(trainable, data, 2, key, mesh=m) for m in (rows, None))
    assert got.state.params.weights["0"]["w"].dtype == jnp.float32
    assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_devices_send_sums_and_nothing_else():
    """Convolutions by both methods, with their backward by hand, and dropout's random numbers."""
    images = (rng.normal(size=(12, 6, 6, 1)), t[:12])
    net = pn.serial(
        pn.conv(4, 3, padding="same", method="columns"), pn.batch_norm(), pn.relu, pn.max_pool(2),
        pn.conv(5, 2, method="direct"), pn.relu, pn.flatten, pn.dropout(0.5), pn.dense(3),
    )  # fmt: skip
    trainable = make(net, (6, 6, 1), batch_size=6, optimizer=pn.sgd(0.1))
    where = placement("fit", rows, None, jax.eval_shape(trainable.init, jax.random.key(0)))
    with where.context():
        parts = where.data(training._named_parts((images, images)))
        setup = (trainable, where, Scoring())
        state = training._start(setup)(where.data(jax.random.key(0)))
        program = training._train_block(setup).lower(state, parts, 0, 2, 1, 2).compile()
        got = program(state, parts, 0, 2, 1, 2)
    text = program.as_text()
    assert "input_output_alias" in text  # donated
    names = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    operations = re.findall(rf"= (\(.*?\)|\S+) ({names})[\w-]*\(", text)
    assert {operation for _, operation in operations} == {"all-reduce"}
    shapes = re.findall(r"\[([\d,]+)\]", " ".join(shapes for shapes, _ in operations))
    assert "20,3" in shapes  # the gradient of the last matrix
    assert max(np.prod([int(n) for n in shape.split(",")]) for shape in shapes) == 60
    expected = pn.fit(trainable, (images, images), 2, jax.random.key(0))
    curves = jax.tree.map(lambda a: np.asarray(a[:2]), got[1])
    assert_close(pn.Fit(got[0], curves), expected)


def test_other_training_code_runs_on_a_mesh():
    trainable = pn.Trainable(
        init=lambda key: {"w": jax.random.normal(key, (6,))},
        epoch=lambda s, data: ({"w": 0.9 * s["w"] + data[0].mean(0)}, {"n": jnp.sum(s["w"])}),
        evaluate=lambda s, data: {"loss": (shard_batch(data[0]) @ s["w"]).mean()},
    )
    got, expected = (pn.fit(trainable, DATA, 3, jax.random.key(0), mesh=m) for m in (rows, None))
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(expected), rtol=1e-12)


@pytest.mark.parametrize("before, after", [(None, rows), (rows, None)], ids=["to", "from"])
def test_a_file_goes_on_with_a_mesh_and_without(mlp, tmp_path, before, after):
    trainable, expected = mlp
    key, path = jax.random.key(0), tmp_path / "run.npz"
    pn.fit(trainable, DATA, 2, key, path=path, mesh=before)
    got = pn.fit(trainable, DATA, 4, key, path=path, mesh=after)
    assert_close(got, expected)
    again = pn.fit(trainable, DATA, 4, key, path=path, mesh=before)
    chex.assert_trees_all_equal(again.history, got.history)


def test_rows_are_left_alone_without_a_mesh_of_fit():
    ones = jnp.ones((4, 2))
    assert shard_batch(ones) is ones
    with jax.set_mesh(rows):  # explicit axes are the user's own
        assert shard_batch(ones) is ones
    mesh = jax.sharding.Mesh(rows.devices, rows.axis_names)
    inside = jax.shard_map(shard_batch, mesh=mesh, in_specs=P("rows"), out_specs=P("rows"))
    np.testing.assert_array_equal(jax.jit(inside)(ones), ones)


MISTAKES = {
    "no mesh": ({"mesh": jax.devices()}, TypeError, r"mesh is list, but a jax\.sharding\.Mesh"),
    "shard alone": ({"shard": columns_of_the_first}, ValueError, "pass mesh= too"),
    "no function": ({"mesh": rows, "shard": P()}, TypeError, r"shard is P\w*, but a function"),
    "no partition": (
        {"mesh": rows, "shard": lambda name, leaf: None},
        TypeError,
        r"shard returned None for the leaf params\.weights\.0\.b of shape \(8,\)",
    ),
    "no such axis": (
        {"mesh": rows, "shard": columns_of_the_first},
        ValueError,
        r"the leaf params\.weights\.0\.w of shape \(6, 8\), but the mesh has the axes \('rows',\)",
    ),
    "too many axes": (
        {"mesh": rows, "shard": lambda name, leaf: P(None, "rows")},
        ValueError,
        r"params\.weights\.0\.b of shape \(8,\), which has only 1 axes",
    ),
    "no divisor": (
        {"mesh": rows, "shard": lambda name, leaf: P("rows") if leaf.shape == (3,) else P()},
        ValueError,
        r"leaf params\.weights\.4\.b of shape \(3,\), but the mesh axis 'rows' has size 2, which",
    ),
}


@pytest.mark.parametrize("options, kind, message", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mesh_or_a_partition_that_does_not_fit_is_explained(options, kind, message, mlp):
    with pytest.raises(kind, match=message):
        pn.fit(mlp[0], DATA, 1, jax.random.key(0), **options)
