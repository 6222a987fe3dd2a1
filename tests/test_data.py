"""Data: what the files hold, what is said of damaged ones, and that nothing is believed."""

import csv as csv_format
import gzip
import importlib.util
import io
import math
import struct
import sys
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from purenet import data

CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def as_idx(array, code=0x08):
    array = np.asarray(array)
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
RAW = as_idx(IMAGES)
PACKED = gzip.compress(RAW, mtime=0)


@pytest.fixture
def file(tmp_path):
    def write(content, name="file"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


# digits
def test_digits_are_the_1797_of_scikit_learn():
    x, t = data.digits()
    raw, coded = data.digits(normalise=False, flatten=False, one_hot=True)
    assert (x.shape, x.dtype, t.shape, t.dtype) == ((1797, 64), np.float32, (1797,), np.int32)
    assert (raw.shape, coded.shape, coded.dtype) == ((1797, 8, 8, 1), (1797, 10), np.float32)
    assert (x.min(), x.max(), raw.max()) == (0, 1, 16)
    np.testing.assert_array_equal(raw.reshape(1797, 64) / 16, x)
    np.testing.assert_array_equal(coded.argmax(1), t)
    assert t[:10].tolist() == list(range(10))


def test_digits_do_not_depend_on_where_scikit_learn_keeps_its_file(monkeypatch):
    x, t = data.digits()
    raw = load_digits()
    np.testing.assert_array_equal(x, (raw.data / 16).astype(np.float32))
    np.testing.assert_array_equal(t, raw.target)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for found, expected in zip(data.digits(), (x, t), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_digits_without_scikit_learn(monkeypatch):
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ModuleNotFoundError, match=r"scikit-learn.*pip install 'purenet\[examples\]"
    ):
        data.digits()


# one IDX file
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize("dtype", CODES)
def test_idx_reads_every_element_type(file, dtype, pack):
    low, high = (-100, 100) if dtype != "u1" else (0, 256)
    array = np.random.default_rng(1).integers(low, high, (3, 2, 4)).astype(dtype)
    found = data.idx(file(pack(as_idx(array, CODES[dtype]))))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=") and found.dtype.isnative
    found[0] = 1  # the caller's own


def test_idx_reads_a_file_longer_than_one_piece_and_two_gzip_members(file):
    long = np.random.default_rng(2).integers(0, 256, (1500, 1000), np.uint8)
    content = as_idx(long)
    np.testing.assert_array_equal(data.idx(file(content)), long)
    two = gzip.compress(content[:999], 1) + gzip.compress(content[999:], 1)
    np.testing.assert_array_equal(data.idx(file(two)), long)


IDX_ERRORS = {
    "empty": (b"", "is empty"),
    "empty gzip": (gzip.compress(b""), "byte 0 once decompressed: the file is empty"),
    "one byte": (b"\0", r"byte 1: the file ends in its header, where 4 bytes"),
    "foreign": (b"\x89PNG....", r"byte 0: found 89 50 4e 47, but an IDX file starts with 00 00"),
    "type": (b"\0\0\x0a\x01\0\0\0\1x", r"byte 2: the element type is 0x0A, .*0x08, 0x09, 0x0B"),
    "no axes": (b"\0\0\x08\x00", r"byte 3: the number of axes is 0, expected 1 to 64"),
    "axes": (b"\0\0\x08\xff" + bytes(2000), r"byte 3: the number of axes is 255"),
    "short header": (RAW[:11], r"byte 11: the file ends in its header.* is 16 bytes long"),
    "zero": (as_idx(np.zeros((2, 0, 3), "u1")), r"byte 8: the shape \(2, 0, 3\) has no elements"),
    "truncated": (RAW[:-1], r"byte 75: .*\(5, 4, 3\) of uint8, 60 bytes.* but the file has 59"),
    "truncated, packed": (
        gzip.compress(RAW[:-1]),
        r"byte 75 once decompressed: .*60 bytes of data, but the file has 59",
    ),
    "trailing": (RAW + b"\0", r"byte 76: data continues after the 60 bytes"),
    "trailing, packed": (gzip.compress(RAW + b"\0"), r"byte 76 once decompressed: data continues"),
    "cut gzip": (PACKED[:-9], r"the gzip data is damaged \(.*end"),
    "checksum": (PACKED[:-5] + b"????" + PACKED[-1:], r"the gzip data is damaged \(.*(CRC|gth)"),
    "garbage after gzip": (PACKED + b"garbage", r"the gzip data is damaged"),
    "gzip of gzip": (gzip.compress(PACKED), r"byte 0 once decompressed: found 1f 8b"),
}


@pytest.mark.parametrize("content, message", IDX_ERRORS.values(), ids=IDX_ERRORS.keys())
def test_idx_says_what_is_wrong_and_where(file, content, message):
    path = file(content, "some-name")
    with pytest.raises(ValueError, match=message) as caught:
        data.idx(path)
    assert f"idx: {path}" in str(caught.value)


def test_idx_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"idx: there is no file .*nothing-here"):
        data.idx(tmp_path / "nothing-here")
    with pytest.raises(ValueError, match="is a directory, but a file is expected"):
        data.idx(tmp_path)


HUGE = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
TERA = bytes([0, 0, 8, 2]) + struct.pack(">2I", 10**6, 10**6)
FEW = bytes([0, 0, 8, 1]) + struct.pack(">I", 100)


@pytest.mark.parametrize(
    "content, message",
    [
        (HUGE + bytes(1000), "the file has 1000"),
        (TERA + bytes(1000), "1000000000000 bytes of data, but the file has 1000"),
        (gzip.compress(TERA + bytes(10**6)), "bytes of gzip cannot hold that many"),
        # far more inside than the header says: unpacking has to stop at once
        (gzip.compress(FEW + bytes(200 * 10**6), 1), "byte 108 .*data continues"),
    ],
    ids=["raw", "raw, a tera", "gzip, a tera", "gzip bomb"],
)
def test_idx_never_allocates_what_is_claimed(file, content, message):
    path = file(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            data.idx(path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def reference_idx(content):
    """The array in the bytes, or None: the format read in the most direct way."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in CODES.values():
        return None
    axes, dtype = content[3], {code: dtype for dtype, code in CODES.items()}[content[2]]
    if not 1 <= axes <= 64 or len(content) < 4 + 4 * axes:
        return None
    sizes = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    values = content[4 + 4 * axes :]
    if 0 in sizes or math.prod(sizes) * np.dtype(dtype).itemsize != len(values):
        return None
    return np.frombuffer(values, dtype).reshape(sizes)


def damage(rng, content):
    content = bytearray(content)
    at = int(rng.integers(len(content)))
    what = rng.integers(6)
    if what == 0:
        content[at] ^= 1 << int(rng.integers(8))
    elif what == 1:
        content[min(at, 15)] = int(rng.integers(256))
    elif what == 2:
        del content[at:]
    elif what == 3:
        del content[at]
    elif what == 4:
        content[at:at] = rng.bytes(int(rng.integers(1, 9)))
    else:
        content += rng.bytes(int(rng.integers(1, 9)))
    return bytes(content)


def test_300_damaged_raw_files(file):
    rng = np.random.default_rng(3)
    outcomes = []
    for _ in range(300):
        content = damage(rng, RAW)
        expected = reference_idx(content)
        path = file(content)
        outcomes.append(expected is None)
        if expected is None:
            with pytest.raises(ValueError, match=f"idx: {path}.*(byte|empty)"):
                data.idx(path)
        else:
            np.testing.assert_array_equal(data.idx(path), expected)
    assert 100 < sum(outcomes) < 300  # both happened


def test_300_damaged_gzip_files(file):
    rng = np.random.default_rng(4)
    errors = 0
    for _ in range(300):
        path = file(damage(rng, PACKED))
        try:
            found = data.idx(path)
        except ValueError as error:
            assert f"idx: {path}" in str(error)
            errors += 1
        else:  # in the header of gzip there are bytes without a meaning here, such as the date
            np.testing.assert_array_equal(found, IMAGES)
    assert errors > 150


# the four files of MNIST
def mnist_files(n=6, m=4, size=(4, 3)):
    rng = np.random.default_rng(5)
    files = {}
    for part, count in (("train", n), ("t10k", m)):
        images = rng.integers(0, 256, (count, *size), np.uint8)
        files[f"{part}-images-idx3-ubyte"] = as_idx(images)
        files[f"{part}-labels-idx1-ubyte"] = as_idx(np.arange(count, dtype=np.uint8))
    return files


def write_all(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_mnist_raw_and_gzipped_are_the_same(tmp_path):
    files = mnist_files()
    write_all(tmp_path, files)
    (tmp_path / "packed").mkdir()
    write_all(tmp_path / "packed", {f"{k}.gz": gzip.compress(v) for k, v in files.items()})
    raw, packed = data.mnist(tmp_path), data.mnist(tmp_path / "packed")
    jax.tree.map(np.testing.assert_array_equal, raw, packed)
    (x, t), (x_test, t_test) = raw
    assert (x.shape, x.dtype, t.dtype) == ((6, 12), np.float32, np.int32)
    assert (x_test.shape, t_test.tolist()) == ((4, 12), [0, 1, 2, 3])
    pixels = np.frombuffer(files["train-images-idx3-ubyte"][16:], np.uint8).reshape(6, 4, 3)
    np.testing.assert_array_equal(x, pixels.reshape(6, 12).astype(np.float32) / np.float32(255))
    (x, t), _ = data.mnist(tmp_path, normalise=False, flatten=False, one_hot=True)
    np.testing.assert_array_equal(x[..., 0], pixels)
    np.testing.assert_array_equal(t, np.eye(10)[:6])


def test_mnist_names_what_is_missing(tmp_path):
    names = sorted(mnist_files())
    with pytest.raises(FileNotFoundError, match="is not a directory") as caught:
        data.mnist(tmp_path / "no")
    assert all(name in str(caught.value) for name in names)
    files = mnist_files()
    del files["t10k-labels-idx1-ubyte"]
    write_all(tmp_path, files)
    with pytest.raises(FileNotFoundError, match=r"lacks t10k-labels-idx1-ubyte; .*without \.gz"):
        data.mnist(tmp_path)


def swap(files):
    a, b = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    return files | {a: files[b], b: files[a]}


MNIST_ERRORS = {
    "swapped": (swap, r"train-images.*expected images .*shape \(6,\) of uint8.*labels swapped"),
    "counts": (
        lambda f: f | {"t10k-labels-idx1-ubyte": as_idx(np.zeros(3, "u1"))},
        r"t10k-images.* has 4 images, but .*t10k-labels.* has 3 labels",
    ),
    "label": (
        lambda f: f | {"t10k-labels-idx1-ubyte": as_idx(np.array([1, 9, 10, 2], "u1"))},
        r"t10k-labels-idx1-ubyte: label number 2 is 10, expected 0 to 9",
    ),
    "dtype": (
        lambda f: f | {"train-labels-idx1-ubyte": as_idx(np.zeros(6, ">i4"), 0x0C)},
        r"train-labels.*expected labels \(n,\) of uint8, found the shape \(6,\) of int32",
    ),
    "sizes": (
        lambda f: f | {"t10k-images-idx3-ubyte": as_idx(np.zeros((4, 5, 5), "u1"))},
        r"training images have the shape \(4, 3\), but the test images \(5, 5\)",
    ),
    "truncated": (
        lambda f: f | {"train-images-idx3-ubyte": f["train-images-idx3-ubyte"][:-1]},
        r"train-images-idx3-ubyte, byte 87",
    ),
}


@pytest.mark.parametrize("change, message", MNIST_ERRORS.values(), ids=MNIST_ERRORS.keys())
def test_mnist_says_what_is_wrong(tmp_path, change, message):
    write_all(tmp_path, change(mnist_files()))
    with pytest.raises(ValueError, match=message):
        data.mnist(tmp_path)


def test_mnist_itself(mnist_dir):
    (x, t), (x_test, t_test) = data.mnist(mnist_dir)
    assert (x.shape, x_test.shape, x.dtype) == ((60_000, 784), (10_000, 784), np.float32)
    assert t[:5].tolist() == [5, 0, 4, 1, 9] and t_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(x.mean() - 0.1307) < 1e-4  # the mean that everyone knows
    assert np.bincount(t).tolist()[:3] == [5923, 6742, 5958]


# CSV
def test_csv_label_anywhere_quoted_or_not_and_its_options(file):
    plain = b"p0,p1,label,p2,p3\n0,255,3,51,102\n1,2,0,3,4\n"
    quoted = b'\xef\xbb\xbf"p0", "p1"," label",p2,p3\r\n"0",255.0,"3", 51 ,1.02e2\r\n\r\n1,2,0,3,4'
    quoted = quoted.replace(b', "p1"', b',"p1"')
    for content in (plain, quoted):
        x, t = data.csv(file(content), normalise=False)
        assert x.tolist() == [[0, 255, 51, 102], [1, 2, 3, 4]] and t.tolist() == [3, 0]
        assert (x.dtype, t.dtype) == (np.float32, np.int32)
    path = file(plain)
    np.testing.assert_array_equal(data.csv(path)[0], x / np.float32(255))
    assert data.csv(path, flatten=False)[0].shape == (2, 2, 2, 1)
    assert data.csv(path, one_hot=True)[1].tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert data.csv(path, one_hot=True, classes=10)[1].shape == (2, 10)
    assert data.csv(path, label="p2", normalise=False)[1].tolist() == [51, 3]


CSV_ERRORS = {
    "empty": (b"", r"is empty; a header line with the column 'label'"),
    "blank": (b"\n\n", r"is empty"),
    "header only": (b"label,a\n", r"ends after its header"),
    "no label": (b"a,b\n1,2\n", r"line 1: expected one column 'label' .*found none among 'a', 'b'"),
    "no label, wide": (b",".join([b"0"] * 785), r"none among '0', .*… \(785 columns\)"),
    "two labels": (b"label,a,label\n1,2,3", r"line 1: .*found 2"),
    "no pixels": (b"label\n1\n", r"line 1: expected pixel columns"),
    "short row": (b"label,a,b\n1,2,3\n1,2\n", r"line 3: expected 3 cells .*found 2"),
    "long row": (b"label,a,b\n1,2,3,4\n", r"line 2: expected 3 cells .*found 4"),
    "word": (b"label,a,b\n1,2,x\n", r"line 2, column 'b': expected a number, found 'x'"),
    "word before": (b"a,label,b\nx,1,2\n", r"line 2, column 'a': expected a number, found 'x'"),
    "cell missing": (b"a,label,b\n1,1,2\n\n1,1,\n", r"line 4, column 'b': .*found ''"),
    "underscore": (b"label,a\n1,1_0\n", r"expected a number, found '1_0'"),
    "nan": (b"label,a\n1,nan\n", r"expected a number, found 'nan'"),
    "over": (b"label,a\n1,256\n", r"line 2, column 'a': expected a pixel from 0 to 255.*'256'"),
    "under": (b"label,a\n1,-1\n", r"expected a pixel from 0 to 255, found '-1'"),
    "infinite": (b"label,a\n1,1e999\n", r"expected a pixel from 0 to 255, found '1e999'"),
    "long": (b"label,a\n1," + b"x" * 999, r"found 'x{30}…'"),
    "label not whole": (b"label,a\n1.5,2\n", r"line 2, column 'label': expected an integer"),
    "label negative": (b"label,a\n-1,2\n", r"expected an integer from 0, found '-1'"),
    "label huge": (b"label,a\n4294967296,2\n", r"expected an integer from 0, found"),
    "label word": (b"label,a\nseven,2\n", r"column 'label': expected a number, found 'seven'"),
    "NUL": (b"label,a\n1,2\n1,\0\n", r"line 3: expected text, found a NUL at byte 2"),
    "bytes": (b"label,a\n1,\xe92\n", r"line 2: expected text in UTF-8, found the byte 0xe9"),
    "utf-16": ("label,a\n1,2".encode("utf-16"), r"line 1: expected text"),
    "quotes": (b'label,a\n1,"2"3\n', r"line 2: expected comma-separated cells, but"),
    "open quote": (b'label,a\n1,"2\n3', r"line 3: expected comma-separated cells, but"),
}


@pytest.mark.parametrize("content, message", CSV_ERRORS.values(), ids=CSV_ERRORS.keys())
def test_csv_says_what_is_wrong_and_where(file, content, message):
    path = file(content)
    with pytest.raises(ValueError, match=message) as caught:
        data.csv(path)
    assert f"csv: {path}" in str(caught.value)


def test_300_damaged_csv_files(file):
    """An error with the file, the line and what was expected there, or a table of legal numbers."""
    rng = np.random.default_rng(6)
    rows = [["label", *(f"p{i}" for i in range(6))]]
    rows += [[str(n) for n in (i % 10, *rng.integers(0, 256, 6))] for i in range(8)]
    whole = "\n".join(",".join(row) for row in rows).encode() + b"\n"
    errors = 0
    for _ in range(300):
        path = file(damage(rng, whole))
        try:
            x, t = data.csv(path, normalise=False)
        except ValueError as error:
            assert f"csv: {path}" in str(error)
            assert "line" in str(error) or "header" in str(error)
            errors += 1
        else:
            assert len(x) == len(t) and t.min() >= 0
            assert np.isfinite(x).all() and x.min() >= 0 and x.max() <= 255
    assert errors > 100


def test_csv_options_that_do_not_fit(file, tmp_path):
    path = file(b"label,a,b\n9,1,2\n")
    with pytest.raises(ValueError, match=r"line 1: 2 pixel columns are not a square image"):
        data.csv(path, flatten=False)
    with pytest.raises(ValueError, match=r"line 2, column 'label': .* from 0 to 4, found '9'"):
        data.csv(path, classes=5)
    with pytest.raises(ValueError, match=r"csv: classes is 0, but a positive integer"):
        data.csv(path, classes=0)
    with pytest.raises(ValueError, match=r"largest label is 2000000000.*classes=2000000001"):
        data.csv(file(b"label,a\n2000000000,1\n"), one_hot=True)
    with pytest.raises(FileNotFoundError, match=r"csv: there is no file .*nothing"):
        data.csv(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a directory"):
        data.csv(tmp_path)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.tuples(
                st.integers(0, 20),
                st.lists(st.one_of(st.integers(0, 255), st.floats(0, 255)), min_size=n, max_size=n),
            ),
            min_size=1,
            max_size=5,
        )
    ),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5),
    place=st.integers(0, 4),
    quoting=st.sampled_from([csv_format.QUOTE_MINIMAL, csv_format.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_round_trip(tmp_path_factory, rows, name, place, quoting, end):
    width = len(rows[0][1])
    place = min(place, width)
    text = io.StringIO()
    writer = csv_format.writer(text, quoting=quoting, lineterminator=end)
    header = [f"{name} {i}" for i in range(width)]
    writer.writerow([*header[:place], "label", *header[place:]])
    for label, pixels in rows:
        writer.writerow([*pixels[:place], label, *pixels[place:]])
    path = tmp_path_factory.mktemp("csv") / "file.csv"
    path.write_bytes(text.getvalue().encode())
    x, t = data.csv(path, normalise=False)
    assert t.tolist() == [label for label, _ in rows]
    np.testing.assert_array_equal(x, np.array([pixels for _, pixels in rows], np.float32))


# one-hot, shuffle, split
def test_one_hot_keeps_the_library_and_the_leading_shape():
    for library, kind in ((np, np.ndarray), (jnp, jax.Array)):
        coded = data.one_hot(library.array([[2, 0], [1, 1]]), 3)
        assert isinstance(coded, kind) and coded.dtype == np.float32
        np.testing.assert_array_equal(coded, np.eye(3)[[[2, 0], [1, 1]]])
    np.testing.assert_array_equal(jax.jit(lambda t: data.one_hot(t, 2))(jnp.array([1])), [[0, 1]])
    assert data.one_hot([1, 0], 2).shape == (2, 2)


@pytest.mark.parametrize(
    "labels, classes, message",
    [
        ([0, 3], 3, r"the label at \[1\] is 3, but 3 classes have labels 0 to 2"),
        ([0, -1], 3, r"the label at \[1\] is -1"),
        ([0.0], 3, r"labels is an array of float64"),
        ([True], 3, r"labels is an array of bool"),
        ([0], 0, r"classes is 0, but a positive integer"),
        ([0], 2.5, r"classes is 2.5"),
    ],
)
def test_one_hot_errors(labels, classes, message):
    for library in (np, jnp):
        with pytest.raises(ValueError, match=f"one_hot: {message}"):
            data.one_hot(library.array(labels), classes)


def pairs(library=np, n=20):
    return {"x": library.arange(n * 3).reshape(n, 3) // 3, "t": library.arange(n)}


@pytest.mark.parametrize("library, kind", [(np, np.ndarray), (jnp, jax.Array)])
def test_shuffle_moves_all_leaves_alike(key, library, kind):
    moved = data.shuffle(key, pairs(library))
    assert all(isinstance(leaf, kind) for leaf in moved.values())
    np.testing.assert_array_equal(np.asarray(moved["x"])[:, 0], moved["t"])
    assert sorted(moved["t"].tolist()) == list(range(20)) != moved["t"].tolist()
    again = data.shuffle(key, pairs(library))
    np.testing.assert_array_equal(again["t"], moved["t"])
    other = data.shuffle(jax.random.key(1), pairs(library))
    assert other["t"].tolist() != moved["t"].tolist()


def test_the_order_is_the_same_in_float32_programs_in_jit_and_for_both_libraries(key):
    order = data.shuffle(key, np.arange(50)).tolist()
    with jax.enable_x64(False):
        assert data.shuffle(key, np.arange(50)).tolist() == order
    assert jax.jit(lambda k: data.shuffle(k, np.arange(50)))(key).tolist() == order
    assert data.shuffle(key, jnp.arange(50)).tolist() == order


@pytest.mark.parametrize("validation, held", [(0.2, 4), (0.26, 5), (7, 7), (np.float32(0.5), 10)])
def test_split_cuts_without_losing_any(key, validation, held):
    train, valid = data.split(key, pairs(), validation)
    assert (len(train["t"]), len(valid["t"])) == (20 - held, held)
    assert sorted([*train["t"].tolist(), *valid["t"].tolist()]) == list(range(20))
    np.testing.assert_array_equal(train["x"][:, 0], train["t"])
    assert valid["t"].tolist() != list(range(held))
    again = data.split(key, pairs(jnp), validation)[1]
    np.testing.assert_array_equal(again["t"], valid["t"])


SPLIT_ERRORS = {
    "nothing": ((), 0.2, r"data \(\) holds no arrays"),
    "no examples": (np.zeros((0, 3)), 0.2, r"data has no examples"),
    "scalar": ((np.ones(3), 1.0), 0.2, r"data\[1\] is a single value"),
    "lengths": (
        {"a": np.ones(3), "b": np.ones((4, 2))},
        0.2,
        r"data\['b'\] has 4 examples, but data\['a'\] has 3",
    ),
    "all to validate": (np.ones(10), 0.99, r"of 10 examples leaves 0 to train and 10 to validate"),
    "none to validate": (np.ones(10), 0.01, r"leaves 10 to train and 0 to validate"),
    "one example": (np.ones(1), 0.5, r"of 1 examples leaves"),
    "count": (np.ones(10), 10, r"leaves 0 to train and 10"),
    "too many": (np.ones(10), 11, r"validation=11 of 10 examples"),
    "zero": (np.ones(10), 0, r"validation is 0, but"),
    "one": (np.ones(10), 1.0, r"validation is 1.0, but a fraction between 0 and 1"),
    "nan": (np.ones(10), math.nan, r"validation is nan, but a fraction"),
    "bool": (np.ones(10), True, r"validation is True, but a fraction"),
    "text": (np.ones(10), "20%", r"validation is '20%'"),
}


def test_split_and_shuffle_move_nothing_unasked(key):
    with jax.transfer_guard("disallow"):
        train, validation = data.split(key, np.arange(10))
        assert (
            sorted([*train, *validation])
            == sorted(data.shuffle(key, np.arange(10)))
            == [*range(10)]
        )


@pytest.mark.parametrize("tree, validation, message", SPLIT_ERRORS.values(), ids=SPLIT_ERRORS)
def test_split_errors(key, tree, validation, message):
    with pytest.raises(ValueError, match=f"split: .*{message}|split: {message}"):
        data.split(key, tree, validation)


def test_shuffle_errors(key):
    with pytest.raises(ValueError, match=r"shuffle: data\[1\] has 2 examples, but data\[0\] has 3"):
        data.shuffle(key, (np.ones(3), np.ones(2)))


def test_a_folder_given_as_text(tmp_path):
    write_all(tmp_path, mnist_files())
    assert data.mnist(str(tmp_path))[0][0].shape == (6, 12)
    assert data.idx(str(Path(tmp_path, "t10k-labels-idx1-ubyte"))).tolist() == [0, 1, 2, 3]
