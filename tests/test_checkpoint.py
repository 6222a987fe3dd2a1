"""Files of trees and networks: what comes back, and what is said of files that are not right."""

import functools
import gc
import io
import json
import os
import sys
import tracemalloc
import zipfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forks import run

import purenet as pn
from purenet import checkpoint
from purenet.checkpoint import npz
from purenet.nn.base import shape

SUFFIXES = (".npz", ".safetensors")


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"file{request.param}"


def as_numpy(leaf):
    keys = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if keys else leaf)


def assert_same(got, expected):
    """Equal trees: structure, kinds of leaves, dtypes, shapes and every bit."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert isinstance(a, jax.Array) == isinstance(b, jax.Array)
        assert getattr(a, "dtype", type(a)) == getattr(b, "dtype", type(b))
        a, b = as_numpy(a), as_numpy(b)
        assert a.shape == b.shape and a.tobytes() == b.tobytes()


# every kind of leaf
class Pair(NamedTuple):
    first: object
    second: object = ()


LEAVES = {
    "float64": jnp.linspace(0, 1, 6).reshape(2, 3),
    "float32": jnp.arange(3, dtype=jnp.float32),
    "float16": jnp.arange(3, dtype=jnp.float16),
    "bfloat16": jnp.linspace(0, 1, 5, dtype=jnp.bfloat16),
    "float8_e4m3fn": jnp.linspace(0, 1, 5).astype(jnp.float8_e4m3fn),
    "float8_e5m2": np.linspace(0, 1, 5).astype(jnp.float8_e5m2),
    "float8_e4m3b11fnuz": jnp.linspace(0, 1, 5).astype(jnp.float8_e4m3b11fnuz),
    "int4": np.arange(-8, 8).astype(jnp.int4),
    "integers": (np.arange(3, dtype=np.int8), jnp.arange(3, dtype="uint32"), np.uint64(2**64 - 1)),
    "booleans": jnp.array([True, False]),
    "complex64": jnp.array([1 + 2j], jnp.complex64),
    "0-d": (jnp.float32(2.5), np.float32(2.5), np.array(7)),
    "zero-size": (jnp.zeros((0, 3)), np.zeros((2, 0), np.int16), jnp.zeros(0, jnp.bfloat16)),
    "big-endian": np.arange(3, dtype=">f4"),
    "not contiguous": (np.arange(12.0).reshape(3, 4).T, np.arange(10)[::3]),
    "not finite": np.array([np.nan, np.inf, -0.0], np.float32),
    "Python numbers": (True, -7, 0.1, 1e300, float("inf")),
    "key": jax.random.key(3),
    "keys": jax.random.split(jax.random.key(3, impl="rbg"), (2, 3)),
    "old keys": jax.random.PRNGKey(3),
    "nothing": (),
    "nested": Pair({"a": [1.5, Pair(np.ones(2))], "b": None}, ({}, [jnp.zeros(1)])),
    "names": {"file": 1, "allow_pickle": 2, "metadata.json": 3, "../x": 4, "é ü": 5, "": {"": 6}},
}  # fmt: skip


@pytest.mark.parametrize("tree", LEAVES.values(), ids=LEAVES.keys())
def test_what_was_saved_comes_back(path, tree):
    pn.save(path, tree)
    assert_same(pn.load(path, tree), tree)
    assert sorted(os.listdir(path.parent)) == [path.name]


def test_shapes_and_dtypes_are_enough_to_load(path):
    make = lambda key: {"w": jnp.ones(3, jnp.bfloat16), "key": key, "keys": jax.random.split(key)}
    tree = make(jax.random.key(0, impl="rbg"))
    pn.save(path, tree)
    assert_same(pn.load(path, jax.eval_shape(make, tree["key"])), tree)
    assert_same(pn.load(path, jax.eval_shape(lambda t: t, tree)), tree)


def test_complex128_is_for_npz(tmp_path):
    tree = {"z": np.array([1 + 2j]), "python": 1j}
    pn.save(tmp_path / "a.npz", tree)
    assert_same(pn.load(tmp_path / "a.npz", tree), tree)
    with pytest.raises(ValueError, match=r"the leaf python has an array of complex128.*\.npz"):
        pn.save(tmp_path / "a.safetensors", tree)


def test_other_libraries_read_the_leaves_by_their_paths(tmp_path):
    params = pn.dense(2).init(jax.random.key(0), 3)
    tree = {"params": params, "half": jnp.ones(2, jnp.bfloat16)}
    for suffix in SUFFIXES:
        pn.save(tmp_path / f"a{suffix}", tree)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["params.weights.w"], params.weights["w"])
    from safetensors.numpy import load_file

    found = load_file(tmp_path / "a.safetensors")
    assert set(found) == {"params.weights.w", "params.weights.b", "half"}
    np.testing.assert_array_equal(found["half"].astype(float), [1, 1])


def test_the_same_tree_gives_the_same_bytes(path):
    pn.save(path, LEAVES, {"a": 1})
    first = path.read_bytes()
    pn.save(path, LEAVES, {"a": 1})
    assert path.read_bytes() == first


def test_metadata_is_what_json_holds(path):
    pn.save(path, ())
    assert checkpoint.load_metadata(path) == {}
    given = {
        "text": "é",
        "numbers": [1, 2.5, None],
        "loss": np.float32(0.5),
        "curve": jnp.arange(2),
    }
    pn.save(path, {"w": np.zeros(3)}, given)
    assert checkpoint.load_metadata(path) == given | {"loss": 0.5, "curve": [0, 1]}


SAVE_ERRORS = {
    "text": ({"a": ["x"]}, {}, r"the leaf a\.0 is 'x', .*`metadata`"),
    "object": ({"a": object()}, {}, r"the leaf a is an object, but an array or a number"),
    "array of text": (np.array(["x"]), {}, r"the leaf leaf is an array of <U1"),
    "array of objects": (np.array([None]), {}, r"an array of object, but numbers"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), {}, r"an array of datetime64\[D\]"),
    "huge number": ({"n": 2**63}, {}, r"the leaf n is 9223372036854775808, which does not fit"),
    "collision": ({"a.b": 1, "a": {"b": 2}}, {}, r"\['a'\]\['b'\] and \['a.b'\] .*named 'a\.b'"),
    "NUL": ({"a\0b": 1}, {}, r"a\\x00b' has a name that no file can hold"),
    "long name": ({"a" * 10_001: 1}, {}, r"'a{59}… has a name that no file can hold"),
    "no text": ({"\ud800": 1}, {}, r"a name that no file can hold"),
    "metadata": (1, {"metadata": {"a": {1, 2}}}, r"metadata is .*JSON cannot hold \({1, 2} is a"),
    "circle": (1, {"metadata": (lambda a: a.append(a) or a)([])}, r"JSON cannot hold \(Circular"),
    "long metadata": (1, {"metadata": "x" * 2**24}, r"metadata takes 167772\d\d bytes, but at"),
}  # fmt: skip


@pytest.mark.parametrize("tree, options, message", SAVE_ERRORS.values(), ids=SAVE_ERRORS)
def test_save_says_what_cannot_be_saved(path, tree, options, message):
    with pytest.raises(ValueError, match=f"save: .*{message}"):
        pn.save(path, tree, **options)
    assert not list(path.parent.iterdir())


def test_save_says_where_it_cannot_write(tmp_path):
    for name in ("a", "a.pkl", "a.npz.bak"):
        with pytest.raises(ValueError, match=r"ends in .*, expected \.npz or \.safetensors"):
            pn.save(tmp_path / name, ())
    with pytest.raises(FileNotFoundError, match=r"save: .*a\.npz: there is no folder .*no"):
        pn.save(tmp_path / "no" / "a.npz", ())


def test_save_inside_jit_is_explained(tmp_path):
    with pytest.raises(ValueError, match=r"the leaf x is a traced array .* outside jit"):
        jax.jit(lambda x: pn.save(tmp_path / "a.npz", {"x": x}))(1.0)


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    pn.save(path, {"w": np.ones(3)})
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        pn.save(path, {"w": np.zeros(3)})
    assert pn.load(path, {"w": np.zeros(3)})["w"].sum() == 3 and len(os.listdir(tmp_path)) == 1


# files that are not what `like` asks for
TREE = {"a": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, "n": 7, "key": jax.random.key(1)}
OTHERS = {
    "shape": (
        {"a": {"w": np.zeros((3, 2), np.float32)}},
        r"the leaf a\.w is float32 \(2, 3\), but float32 \(3, 2\) is expected",
    ),
    "dtype": (
        {"a": {"w": np.zeros((2, 3))}},
        r"a\.w is float32 \(2, 3\), but float64 \(2, 3\) is expected; .*jax_enable_x64",
    ),
    "half": (
        {"a": {"w": jnp.zeros((2, 3), jnp.bfloat16)}},
        r"a\.w is float32 \(2, 3\), but bfloat16",
    ),
    "number": ({"n": 7.0}, r"the leaf n is int64 \(\), but float64 \(\) is expected"),
    "generator": ({"key": jax.random.key(1, impl="rbg")}, r"key threefry2x32.*but key rbg"),
    "no key": ({"key": np.zeros(2, np.uint32)}, r"key threefry2x32 .*but uint32 \(2,\) is"),
    "missing": ({"b": np.zeros(2)}, r"the leaf b, float64 \(2,\), is missing\."),
    "renamed": ({"a": {"v": 1}}, r"a\.v, int64 \(\), is missing; the leaves a\.w are not expected"),
    "extra": ({"a": {}}, r"the leaf a\.w is not expected; expected key, n"),
    "text": ({"n": "x"}, r"like: the leaf n is 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("change, message", OTHERS.values(), ids=OTHERS.keys())
def test_load_names_the_leaf_that_differs(path, change, message):
    pn.save(path, TREE)
    with pytest.raises(ValueError, match=message) as caught:
        pn.load(path, TREE | change)
    assert f"load: {path}" in str(caught.value)


def test_float64_needs_x64(path):
    pn.save(path, {"w": jnp.ones(3)})
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"w is float64 .*narrows to float32.*jax_enable_x64"),
    ):
        pn.load(path, {"w": jax.ShapeDtypeStruct((3,), np.float64)})


def test_missing_files_and_folders(path):
    for read in (lambda p: pn.load(p, ()), pn.load_network, checkpoint.load_metadata):
        with pytest.raises(FileNotFoundError, match=f": there is no file {path}"):
            read(path)
        path.mkdir()
        with pytest.raises(ValueError, match=f"{path} is a directory"):
            read(path)
        path.rmdir()


# foreign and damaged files
def members(*pairs, packed=False):
    content = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, text in pairs:
            archive.writestr(name, text)
    return content.getvalue()


def array(shape="(2,)", descr="<f8", size=16):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n" + bytes(size)


def numpy_archive(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


DOCUMENT = ("metadata.json", '{"format": 1, "kinds": {}, "metadata": {}}')
LIKE = {"w": np.zeros(2)}
FILES = {
    "empty": (b"", r"is empty, but a file written by `save` starts with 50 4b"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(99), r"starts with 89 50 4e 47, but"),
    "pickle": (b"\x80\x04K\x01.", r"starts with 80 04 4b 01"),
    "only a start": (b"PK\x03\x04", r"is damaged: its directory cannot be read"),
    "no member": (members(), r"is a zip file without metadata\.json"),
    "of NumPy": (numpy_archive(w=np.zeros(2)), r"without metadata\.json.*holds \['w\.npy'\]"),
    "no JSON": (members(("metadata.json", "{")), r"its metadata cannot be read \(Expecting"),
    "no text": (members(("metadata.json", b"\xff")), r"'metadata\.json' cannot be read \('utf-8'"),
    "deep JSON": (members(("metadata.json", "[" * 10**5)), r"its metadata cannot be read \(max"),
    "deep list": (members(("metadata.json", "[" * 900 + "]" * 900)), r"not written by `save`"),
    "other JSON": (members(("metadata.json", "[1]")), r"not written by `save`: its metadata is"),
    "no format": (members(("metadata.json", '{"format": true}')), r"not written by `save`"),
    "format 0": (members(("metadata.json", '{"format": 0}')), r"not written by `save`"),
    "format 2": (members(("metadata.json", '{"format": 2}')), r"of format 2, .* up to 1; update"),
    "no kinds": (members(("metadata.json", '{"format": 1}')), r"is damaged: its metadata is"),
    "kinds that are no text": (
        members(
            ("metadata.json", '{"format": 1, "kinds": {"w": {"a": 1}}, "metadata": {}}'),
            ("w.npy", array()),
        ),
        r"is damaged: its metadata is",
    ),
    "long text": (
        members(("metadata.json", bytes(2**24 + 1))),
        r"metadata\.json has 16777217 bytes, but at most 16777216",
    ),
    "stray": (members(DOCUMENT, ("w.txt", "")), r"'w\.txt' is neither metadata\.json nor an array"),
    "no array": (members(DOCUMENT, ("w.npy", b"hello world")), r"'w\.npy' .*found 68 65 6c"),
    "nothing": (members(DOCUMENT, ("w.npy", b"")), r"found nothing where an array should start"),
    "version": (
        members(DOCUMENT, ("w.npy", array().replace(b"\x01\x00", b"\x02\x00", 1))),
        r"where an array should start",
    ),
    "header": (
        members(DOCUMENT, ("w.npy", array("__import__('os')"))),
        r"its header is b\"\{'descr'",
    ),
    "objects": (members(DOCUMENT, ("w.npy", array(descr="|O"))), r"its header is"),
    "dtype": (members(DOCUMENT, ("w.npy", array(descr="<f3"))), r"its header has the type '<f3'"),
    "too few": (
        members(DOCUMENT, ("w.npy", array(size=15))),
        r"claims 16 bytes of float64 \(2,\), but it has 15",
    ),
    "too many": (members(DOCUMENT, ("w.npy", array(size=17))), r"claims 16 bytes .* but it has 17"),
    "huge": (
        members(DOCUMENT, ("w.npy", array("(999999999999, 999999999999)"))),
        r"claims 7999999999984000000000008 bytes",
    ),
    "bomb": (
        members(DOCUMENT, ("w.npy", array("(6250000,)", size=50 * 10**6)), packed=True),
        r"the member 'metadata\.json' is compressed",
    ),
    "larger than asked": (
        members(DOCUMENT, ("w.npy", array("(625000,)", size=5 * 10**6))),
        r"w is float64 \(625000,\), but float64 \(2,\) is expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize("content, message", FILES.values(), ids=FILES.keys())
def test_load_says_what_is_wrong_with_a_file(tmp_path, content, message):
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            pn.load(path, LIKE)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
    assert f"load: {path}" in str(caught.value)


def test_a_member_that_is_there_twice(tmp_path):
    path = tmp_path / "some.npz"
    with pytest.warns(UserWarning, match="Duplicate name"):
        path.write_bytes(members(DOCUMENT, ("w.npy", array()), ("w.npy", array())))
    with pytest.raises(ValueError, match=r"has two members 'w\.npy'"):
        pn.load(path, LIKE)


def test_two_members_in_one_place(tmp_path):
    path = tmp_path / "some.npz"
    content = bytearray(members(DOCUMENT, ("v.npy", array()), ("w.npy", array())))
    first, second = (
        i for i in zipfile.ZipFile(io.BytesIO(content)).infolist() if "npy" in i.filename
    )
    at = content.rindex(second.header_offset.to_bytes(4, "little"), 0, content.index(b"PK\x05\x06"))
    content[at : at + 4] = first.header_offset.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged: the members 'v\.npy' and 'w\.npy' are one"):
        pn.load(path, LIKE)


def test_a_failed_save_in_a_cycle_of_references_is_collected_silently(tmp_path, monkeypatch):
    def full(file):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk is full") as caught:
        pn.save(tmp_path / "some.npz", LIKE)
    caught.value.cause = caught.value  # with the frames that held what was to be written
    del caught
    gc.collect()  # an error in here would be a warning, and so fail


def test_a_member_that_claims_more_than_the_file_has(tmp_path):
    path = tmp_path / "some.npz"
    content = bytearray(members(DOCUMENT, ("w.npy", array())))
    at = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)  # w.npy in the directory
    content[at + 20 : at + 28] = (2**31).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"member 'w\.npy' claims 2147483648 bytes, but has \d\d\d"
    ):
        pn.load(path, LIKE)


def test_a_member_that_claims_more_room_than_it_needs(tmp_path):
    """A right file, but zipfile would allocate a GiB to read it."""
    path = tmp_path / "some.npz"
    content = bytearray(members(DOCUMENT, ("w.npy", array())))
    at = content.index(b"PK\x01\x02")  # metadata.json in the directory
    content[at + 20 : at + 24] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'metadata\.json' claims 4294967294 bytes for \d\d\."):
        pn.load(path, LIKE)


@pytest.mark.parametrize("field", [30, 32], ids=["extra", "comment"])
def test_no_member_hides_behind_a_length_in_the_directory(tmp_path, field):
    """One wrong number makes the rest of the directory the comment of its first entry."""
    path = tmp_path / "some.npz"
    content = bytearray(members(DOCUMENT, ("w.npy", array())))
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    hidden = content.index(b"PK\x05\x06") - second
    content[first + field : first + field + 2] = hidden.to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path} is damaged: .*(comment|directory)"):
        pn.load(path, {})


def test_safetensors_that_are_foreign_or_damaged(tmp_path):
    import safetensors.numpy as library

    path = tmp_path / "a.safetensors"
    for content in (b"", b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04", b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"load: {path} is damaged, or not a safetensors file"):
            pn.load(path, LIKE)
    library.save_file(LIKE, path)
    with pytest.raises(ValueError, match=r"without the entry 'purenet'.*safetensors library"):
        pn.load(path, LIKE)
    library.save_file(LIKE, path, {"purenet": DOCUMENT[1]})
    with pytest.raises(ValueError, match=r"is damaged: its entry 'purenet' is '\{"):
        pn.load(path, LIKE)
    library.save_file(LIKE, path, {"purenet": json.dumps([DOCUMENT[1], 0, {}])})
    with pytest.raises(ValueError, match="checksum of its metadata does not match"):
        pn.load(path, LIKE)
    pn.save(path, LIKE)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match="checksum of the leaf w does not match"):
        pn.load(path, LIKE)
    pn.save(path, LIKE)
    path.write_bytes(path.read_bytes().replace(b'"F64","shape":[2]', b'"F4","shape":[32]'))
    with pytest.raises(ValueError, match="the leaf 'w' has the unknown type 'F4'"):
        pn.load(path, LIKE)
    with pytest.raises(ValueError, match=r"leaf __metadata__ has a reserved name"):
        pn.save(path, {"__metadata__": 1})


def test_safetensors_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ModuleNotFoundError, match=r"\.npz.*pip install 'purenet\[safetensors\]'"):
        pn.save(tmp_path / "a.safetensors", ())


def damage(rng, content):
    content = bytearray(content)
    at = int(rng.integers(len(content)))
    what = rng.integers(6)
    if what == 0:
        content[at] ^= 1 << int(rng.integers(8))
    elif what == 1:
        content[at] = int(rng.integers(256))
    elif what == 2:
        del content[at:]
    elif what == 3:
        del content[at : at + int(rng.integers(1, 9))]
    elif what == 4:
        content[at:at] = rng.bytes(int(rng.integers(1, 9)))
    else:
        content += rng.bytes(int(rng.integers(1, 99)))
    return bytes(content)


def test_400_damaged_files(path):
    """ValueError with the file's name, or the very same tree: bytes without a meaning exist."""
    tree = TREE | {"half": jnp.ones(3, jnp.bfloat16)}
    pn.save(path, tree, {"note": "hello"})
    whole, rng, errors = path.read_bytes(), np.random.default_rng(0), 0
    tracemalloc.start()
    try:
        for _ in range(400):
            path.write_bytes(damage(rng, whole))
            try:
                got, note = pn.load(path, tree), checkpoint.load_metadata(path)
            except ValueError as error:
                assert f"load: {path}" in str(error)
                errors += 1
            else:
                assert_same(got, tree)
                assert note == {"note": "hello"}
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    assert errors > 200


def test_every_single_bit_of_the_end_and_the_start_matters_or_is_ignored(tmp_path):
    path = tmp_path / "a.npz"
    pn.save(path, LIKE)
    whole = path.read_bytes()
    for at in [*range(60), *range(len(whole) - 180, len(whole))]:
        for bit in range(at % 2, 8, 2):
            content = bytearray(whole)
            content[at] ^= 1 << bit
            path.write_bytes(content)
            try:
                got = pn.load(path, LIKE)
            except ValueError:
                continue
            assert_same(got, LIKE)


def test_no_more_memory_than_the_tree_asks_for(tmp_path):
    tree = {"w": np.ones(10**7, np.float32)}
    pn.save(tmp_path / "a.npz", tree)
    tracemalloc.start()
    try:
        pn.load(tmp_path / "a.npz", tree)
        assert tracemalloc.get_traced_memory()[1] < 4 * 10**7 + 5e6
    finally:
        tracemalloc.stop()


# networks
def swish(x):
    return x * pn.sigmoid(x)


def scaled(factor, inner=None):
    """A layer of the user's, with a layer inside."""
    inner = pn.dense(2) if inner is None else inner
    return pn.Layer(
        inner.init,
        lambda params, x, train, key: inner.apply(params, factor * x, train, key),
        spec=("scaled", {"factor": factor, "inner": inner}),
    )


OWN = {"swish": swish, "scaled": scaled}
PLAIN = pn.initializers.normal(0.01)
NETWORKS = {
    "mlp": (pn.mlp(), (4, 5, 3)),
    "mlp, more": (
        pn.mlp(pn.tanh, batch_norm=True, dropout=jnp.float32(0.25), weight_init=PLAIN),
        (4, 5, 5, 3),
    ),
    "every layer": (
        pn.serial(
            pn.conv(3, (3, 2), stride=2, padding="same", bias=False, method="columns"),
            pn.local_response_norm(3), pn.avg_pool(2, padding=1), pn.max_pool((2, 1), 1),
            pn.batch_norm(0.8, 1e-3), pn.residual(pn.conv(4, 1), pn.conv(4, 1)),
            pn.residual(pn.gelu), pn.global_avg_pool, pn.layer_norm(), pn.dropout(0),
            pn.dense(3, pn.initializers.uniform()),
            functools.partial(pn.leaky_relu, slope=np.float32(0.2)), pn.softmax,
        ),
        (9, 9, 1),
    ),
    "precision and memory": (
        pn.serial(
            pn.remat(pn.dense(3), jax.checkpoint_policies.dots_saveable), pn.remat(pn.tanh),
            compute_dtype=jnp.bfloat16,
        ),
        4,
    ),
    "mlp in half precision": (pn.remat(pn.mlp(compute_dtype=np.dtype("float16"))), (4, 5, 3)),
    "a partial": (pn.serial(pn.dense(3), functools.partial(pn.elu, alpha=2)), 4),
    "embedding": (pn.serial(pn.embedding(5, 2), pn.flatten, pn.dense(3)), 4),
    "of the user's": (pn.serial(pn.dense(5), swish, scaled(2.0, scaled(0.5)), swish), 4),
    "one function": (pn.serial(pn.relu), 4),
    "no layer": (pn.serial(), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back(name, tmp_path, key):
    net, sizes = NETWORKS[name]
    path = tmp_path / f"net{SUFFIXES[name == 'embedding']}"
    params = net.init(key, sizes)
    pn.save_network(path, net, sizes, params, OWN, metadata={"name": name})
    again, same_sizes, loaded = pn.load_network(path, OWN)
    assert same_sizes == sizes and checkpoint.load_metadata(path) == {"name": name}
    assert_same(loaded, params)
    inputs = sizes[:1] if "mlp" in name else shape(sizes)
    x = jnp.zeros((2, *inputs), int) if name == "embedding" else jnp.ones((2, *inputs))
    expected, got = (n.apply(params, x, True, key) for n in (net, again))
    assert_same(got, expected)
    assert_same(again.init(key, sizes), params)  # the initialisers too


@pytest.mark.parametrize(
    "net, sizes",
    [
        (pn.simple_convnet(), (28, 28, 1)),
        (pn.deep_convnet(), (28, 28, 1)),
        (pn.alexnet(6, stem=(3, 1, 1), filters=(4,) * 5, hidden=8), (32, 32, 3)),
    ],
    ids=["simple_convnet", "deep_convnet", "alexnet"],
)
def test_ready_made_networks_come_back(net, sizes, path, key):
    shapes = jax.eval_shape(lambda key: net.init(key, sizes), key)
    params = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    pn.save_network(path, net, sizes, params)
    again, same_sizes, loaded = pn.load_network(path)
    assert same_sizes == sizes and pn.summary(again, sizes) == pn.summary(net, sizes)
    assert_same(loaded, jax.tree.map(jnp.asarray, params))


def test_a_network_of_functions_the_reader_lacks(path, key):
    net, sizes = NETWORKS["of the user's"]
    pn.save_network(path, net, sizes, net.init(key, sizes), OWN)
    for given, missing in (({}, "swish"), ({"swish": swish}, "scaled")):
        with pytest.raises(
            ValueError,
            match=rf"load_network: {path}: network, layers\[\d\].*'{missing}', which is unknown",
        ):
            pn.load_network(path, given)


NO_DESCRIPTION = {
    "lambda": (pn.serial(pn.dense(2), lambda x: x), r"layers\[1\] is <function .*registry="),
    "own function": (pn.serial(swish), r"layers\[0\] is <function swish.*'swish': that function"),
    "another relu": (pn.serial(jax.nn.relu), r"layers\[0\] is .*is not one of purenet's"),
    "own activation": (pn.mlp(swish), r"activation is <function swish"),
    "in a layer": (
        pn.serial(pn.serial(pn.dense(2, weight_init=lambda key, shape: jnp.ones(shape)))),
        r"layers\[0\] \(serial\), layers\[0\] \(dense\), weight_init is <function",
    ),
    "in a partial": (
        pn.serial(functools.partial(pn.leaky_relu, slope=jnp.ones(2))),
        r"layers\[0\], slope is an array .*but a layer, a function, a number",
    ),
    "own policy": (
        pn.serial(pn.remat(pn.relu, lambda prim, *_, **params: True)),
        r"layers\[0\] \(remat\), policy is <function",
    ),
    "no spec": (pn.serial(pn.Layer(pn.relu, pn.relu)), r"layers\[0\] is a layer without a descrip"),
    "own layer": (pn.serial(scaled(2.0)), r"is the layer 'scaled', which .*registry=\{'scaled'"),
    "deep": (functools.reduce(lambda n, _: pn.serial(n), range(60), pn.relu), r"nests deeper than"),
}  # fmt: skip


@pytest.mark.parametrize("net, message", NO_DESCRIPTION.values(), ids=NO_DESCRIPTION.keys())
def test_save_network_names_what_has_no_description(path, net, message):
    with pytest.raises(ValueError, match=f"save_network: network.*{message}"):
        pn.save_network(path, net, 2, pn.Params(()))
    assert not path.exists()


def test_save_network_checks_what_it_writes(path, key):
    net = pn.mlp()
    params = net.init(key, (4, 5, 3))
    for sizes, message in [
        (
            (4, 6, 3),
            r"params: the leaf params\.weights\.0\.b is float64 \(5,\), but float64 \(6,\)",
        ),
        ((4, 5, 5, 3), r"params\.weights\.4\.b, float64 \(3,\), is missing"),
        ((4, 3), r"the leaf params\.weights\.2\.b is not expected"),
        (4, r"cannot be initialised for sizes 4: ValueError: mlp: sizes 4 should list"),
        ((4, 0), r"sizes is \(4, 0\), but a shape of positive integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            pn.save_network(path, net, sizes, params)
    for registry, message in [
        ({"relu": swish}, "registry has 'relu', which is purenet's"),
        ({"mine": 3}, "maps 'mine' to 3, but names"),
    ]:
        with pytest.raises(ValueError, match=message):
            pn.save_network(path, net, (4, 5, 3), params, registry)
    traced = lambda rate: pn.save_network(path, pn.mlp(dropout=rate), (4, 5, 3), params)
    with pytest.raises(ValueError, match="network, dropout is traced"):
        jax.jit(traced)(0.5)


def nested(depth):
    inner = {"layer": "dense", "arguments": {"units": 3}}
    for _ in range(depth):
        inner = {"layer": "serial", "arguments": {"layers": [inner]}}
    return inner


def layer(name="dense", **arguments):
    return {"layer": name, "arguments": arguments}


DESCRIPTIONS = {
    "nothing": (None, r"network is None, but a layer is expected"),
    "a number": (3, r"network is 3, but a layer is expected"),
    "unknown layer": (layer("eval", x="1"), r"network is the layer 'eval', which is unknown"),
    "a function as layer": (layer("relu"), r"network is the layer 'relu', which is unknown"),
    "a layer as function": ({"function": "dense"}, r"network is the function 'dense'"),
    "dunder": ({"function": "__import__"}, r"the function '__import__', which is unknown"),
    "name of another type": (layer(["dense"]), r"network is the layer \['dense'\]"),
    "unknown argument": (
        layer(unit=3),
        r"network, the layer dense, cannot be built: TypeError: .*'unit'",
    ),
    "missing argument": (layer(), r"dense, cannot be built: TypeError.*'units'"),
    "argument of another type": (layer(units="3"), r"dense, cannot be built: TypeError"),
    "arguments of another type": ({"layer": "dense", "arguments": [3]}, r"network is \{'layer'"),
    "more keys": (layer(units=3) | {"code": "1"}, r"network is \{.*but a layer"),
    "function for a number": (layer(units={"function": "relu"}), r"cannot be built: TypeError"),
    "number for a function": (layer(units=3, weight_init=3), r"cannot be built: TypeError"),
    "wrong function": (
        layer(units=3, weight_init={"function": "relu"}),
        r"cannot be built: TypeError",
    ),
    "keywords": ({"function": "relu", "keywords": [1]}, r"has args \[\] and keywords \[1\], but"),
    "layers of another type": (layer("serial", layers=3), r"serial, cannot be built: TypeError"),
    "no dtype": (
        layer("serial", layers=[], compute_dtype="int8"),
        r"serial, cannot be built: ValueError: .*compute_dtype is 'int8', but one of",
    ),
    "dtypes": (
        layer("mlp", compute_dtype=["float32", {"function": "relu"}]),
        r"mlp, cannot be built: ValueError: .*compute_dtype is",
    ),
    "a policy that is a text": (
        layer("remat", layer={"function": "relu"}, policy="dots_saveable"),
        r"remat, cannot be built: TypeError: remat: policy is 'dots_saveable'",
    ),
    "no layers": (layer("serial"), r"serial, cannot be built: KeyError"),
    "a layer that is a number": (layer("serial", layers=[3]), r"cannot be built: TypeError"),
    "deep": (nested(100), r"nests deeper than 100 levels"),
    "huge": (layer(units=10**30), r"float64 \(10{30},\) is expected"),
    "a window of 10^20": (
        layer("serial", layers=[layer("max_pool", size=10**20, padding=0)]),
        r"cannot be initialised for sizes 4: ",
    ),
    "other weights": (layer(units=4), r"params\.weights\.b is float64 \(3,\), but float64 \(4,\)"),
    "no weights": (layer("batch_norm"), r"beta, float64 \(4,\), is missing"),
}  # fmt: skip


@pytest.mark.parametrize("description, message", DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_load_network_says_what_is_wrong_with_a_description(tmp_path, key, description, message):
    path = tmp_path / "net.npz"
    net = pn.dense(3)
    pn.save_network(path, net, 4, net.init(key, 4))
    change_document(path, {"network": {"description": description, "sizes": 4}})
    with pytest.raises(ValueError, match=message) as caught:
        pn.load_network(path)
    assert f"load_network: {path}: " in str(caught.value)


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool", "conv"])
@pytest.mark.parametrize("size", [65, 10**6, 2**31, 10**20])
def test_a_window_without_end_is_refused_at_once(tmp_path, key, kind, size):
    path = tmp_path / "net.npz"
    net = pn.dense(3)
    pn.save_network(path, net, 4, net.init(key, 4))
    window = {"filters": 1, "kernel": size} if kind == "conv" else {"size": size}
    parts = [layer(kind, **window, padding=size - 1), layer("dense", units=3)]
    network = {"description": layer("serial", layers=parts), "sizes": [size, size, 1]}
    change_document(path, {"network": network})
    with pytest.raises(ValueError, match=rf"{path}: .*(at most 4096 are expected|Error)"):
        pn.load_network(path)


@pytest.mark.parametrize(
    "network, message",
    [
        (None, "holds no network; it was written by `save`, so read it with `load`"),
        ({"description": layer(units=3)}, "holds no network"),
        ({"description": layer(units=3), "sizes": "4"}, "the sizes are damaged"),
        ({"description": layer(units=3), "sizes": {"a": 1}}, "the sizes are damaged"),
        ({"description": layer(units=3), "sizes": [4, -1]}, "the sizes are damaged"),
        ({"description": layer(units=3), "sizes": [4, 4]}, r"cannot be initialised .*\(4, 4\)"),
    ],
)
def test_load_network_says_what_is_wrong_with_the_rest(tmp_path, key, network, message):
    path = tmp_path / "net.npz"
    net = pn.dense(3)
    pn.save_network(path, net, 4, net.init(key, 4))
    change_document(path, {"network": network})
    with pytest.raises(ValueError, match=message):
        pn.load_network(path)


def change_document(path, changes):
    """The file again, with another document: what somebody who means harm would write."""
    with npz.opened("test", path) as file:
        arrays = {name: file.read(name) for name in file.names}
        text = json.dumps(json.loads(file.text) | changes)
    path.write_bytes(npz.write(arrays, text))


# a new process
SECOND = """
import sys, jax, purenet as pn
net, sizes, params = pn.load_network(sys.argv[1])
y, _ = net.apply(params, jax.numpy.linspace(-1, 1, 8).reshape(2, 4), False, None)
like = {"x": jax.ShapeDtypeStruct((30, 4), float), "t": jax.ShapeDtypeStruct((30,), int)}
data = pn.load(sys.argv[2], like)
trainable = pn.supervised(net, sizes, pn.adam(1e-2), pn.softmax_cross_entropy, batch_size=10)
fit = pn.fit(trainable, (data["x"], data["t"]), 6, jax.random.key(5), path=sys.argv[3])
pn.save(sys.argv[4], {"y": y, "state": fit.state, "history": fit.history})
"""


def test_a_new_process_predicts_the_same_and_trains_on_bit_for_bit(tmp_path, key):
    net, sizes = pn.mlp(batch_norm=True, dropout=0.3), (4, 8, 3)
    data = {"x": jax.random.normal(key, (30, 4)), "t": jnp.arange(30) % 3}
    trainable = pn.supervised(net, sizes, pn.adam(1e-2), pn.softmax_cross_entropy, batch_size=10)
    train = lambda epochs, path: pn.fit(
        trainable, (data["x"], data["t"]), epochs, jax.random.key(5), path=path
    )
    files = [tmp_path / f"{name}.npz" for name in ("net", "data", "run", "result")]
    half = train(3, files[2])
    pn.save_network(files[0], net, sizes, half.state.params)
    pn.save(files[1], data)
    config = {"jax_enable_x64": True, "jax_num_cpu_devices": 2}
    done = run("-c", SECOND, *files, config=config)
    assert done.code == 0, done.err
    whole = train(6, None)
    x = jnp.linspace(-1, 1, 8).reshape(2, 4)
    expected = {
        "y": net.apply(half.state.params, x, False, None)[0],
        "state": whole.state,
        "history": whole.history,
    }
    assert_same(pn.load(files[3], expected), expected)
