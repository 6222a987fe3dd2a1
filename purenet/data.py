"""Data: the digits, MNIST in IDX files, CSV; one-hot labels, shuffling, a validation split.

A data set is a pair `(x, t)`: inputs x, float32, (n, pixels) or images (n, h, w, 1), and labels t,
int32 (n,) or one-hot float32 (n, classes). What comes from a file is checked before it is believed:
no size that a header claims is allocated, and nothing in a file is ever unpickled or evaluated.
"""

import csv as csv_format
import math
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from purenet.checks import flag, random_key, told
from purenet.files import as_path, open_file
from purenet.idx_format import idx as idx
from purenet.inputs import named_paths
from purenet.types import Array, Key, PyTree

Dataset = tuple[np.ndarray, np.ndarray]  # (x, t)


# the sources
def digits(normalise: bool = True, flatten: bool = True, one_hot: bool = False) -> Dataset:
    """The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn.

    Shapes: x (1797, 64) float32, or (1797, 8, 8, 1) with `flatten=False`, in [0, 1] or, with
    `normalise=False`, the raw 0..16; t (1797,) int32, or (1797, 10) float32 with `one_hot`.
    Raises ModuleNotFoundError without scikit-learn, TypeError for options that are no bool.
    Source: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).

    >>> x, t = digits()
    >>> x.shape, t.shape, float(x.max())
    ((1797, 64), (1797,), 1.0)
    """
    flag("digits", normalise=normalise, flatten=flatten, one_hot=one_hot)
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"digits: the digits come with scikit-learn, which is not here ({error}); "
            "install it by pip install 'purenet[examples]'."
        ) from error
    found = load_digits()
    return _prepare(found.images, found.target, 16, normalise, flatten, 10 if one_hot else None)


def mnist(
    directory: str | os.PathLike,
    normalise: bool = True,
    flatten: bool = True,
    one_hot: bool = False,
) -> tuple[Dataset, Dataset]:
    """MNIST, or a set in the same four IDX files: (train, test), each (x, t).

    Shapes: x (n, 784) float32, or (n, 28, 28, 1) with `flatten=False`, in [0, 1] or, with
    `normalise=False`, the raw 0..255; t (n,) int32, or (n, 10) float32 with `one_hot`.
    The files are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte, each as it is or gzipped with .gz.
    Raises FileNotFoundError for missing files; ValueError for damaged ones (see `idx`), for files
    in each other's place, counts that differ, and labels outside 0..9; TypeError for what
    is no path, and for options that are no bool.
    Source: LeCun, Cortes & Burges, The MNIST database of handwritten digits (1998).

    >>> mnist("no-such-folder")
    Traceback (most recent call last):
    FileNotFoundError: mnist: no-such-folder is not a directory; looked there for ...
    """
    directory = as_path("mnist", directory)
    flag("mnist", normalise=normalise, flatten=flatten, one_hot=one_hot)
    names = [
        (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")
    ]
    everything = [name for pair in names for name in pair]
    if not directory.is_dir():
        raise FileNotFoundError(
            f"mnist: {directory} is not a directory; looked there for {', '.join(everything)}, "
            "each as it is or with .gz."
        )
    paths = {name: _raw_or_gzipped(directory / name) for name in everything}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise FileNotFoundError(
            f"mnist: {directory} lacks {', '.join(missing)}; looked for each as it is and with .gz."
        )
    train, test = (_images_and_labels(paths[x], paths[t]) for x, t in names)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"mnist: {directory}: the training images have the shape {train[0].shape[1:]}, the "
            f"test images {test[0].shape[1:]}; the same is expected of both."
        )
    classes = 10 if one_hot else None
    return (
        _prepare(*train, 255, normalise, flatten, classes),
        _prepare(*test, 255, normalise, flatten, classes),
    )


def csv(
    path: str | os.PathLike,
    label: str = "label",
    normalise: bool = True,
    flatten: bool = True,
    one_hot: bool = False,
    classes: int | None = None,
) -> Dataset:
    """Images in a CSV file: a header line, a column of labels anywhere, and columns of pixels.

    Shapes: x (n, p) float32 for p pixel columns in their order, or (n, √p, √p, 1) with
    `flatten=False`; values 0..255, divided by 255 when `normalise`. t (n,) int32, or
    (n, classes) float32 with `one_hot`, where `classes` is the largest label + 1 unless given.
    Raises FileNotFoundError where there is no file; ValueError with the file, the line and what
    was expected there for anything that is not such a table; TypeError for what
    is no path, and for options that are no bool.
    Source: the CSV form in which MNIST is passed around (a `label` and 784 pixels); RFC 4180.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("label,pixel0,pixel1\\n7,0,255\\n1,51,0\\n")
    ...     x, t = csv(Path(folder, "a.csv"))
    >>> x.tolist(), t.tolist()
    ([[0.0, 1.0], [0.20000000298023224, 0.0]], [7, 1])
    """
    path = as_path("csv", path)
    flag("csv", normalise=normalise, flatten=flatten, one_hot=one_hot)
    if classes is not None:
        _check_classes("csv", classes)
    table, pixels, labels = _Pixels(), array("f"), array("i")
    with open_file(path, "csv") as file:
        rows = _rows(path, file)
        line, header = next(rows, (0, []))
        if not header:
            raise ValueError(
                f"csv: {path} is empty; a header line with the column {label!r} is expected."
            )
        header = [name.strip() for name in header]
        if header.count(label) != 1:
            raise ValueError(
                f"csv: {path}, line {line}: expected one column {label!r} in the header, found "
                f"{header.count(label) or 'none'} among {_shortened(header)}."
            )
        position = header.index(label)
        width = len(header) - 1
        if not width:
            raise ValueError(
                f"csv: {path}, line {line}: expected pixel columns besides {label!r}, found none."
            )
        side = math.isqrt(width)
        if not flatten and side * side != width:
            raise ValueError(
                f"csv: {path}, line {line}: {width} pixel columns are no square image, which "
                "flatten=False expects; use flatten=True and reshape x yourself."
            )
        for line, cells in rows:
            if len(cells) != len(header):
                raise ValueError(
                    f"csv: {path}, line {line}: expected {len(header)} cells as in the header, "
                    f"found {len(cells)}."
                )
            try:
                labels.append(_label(cells.pop(position), classes))
            except ValueError as error:
                raise ValueError(f"csv: {path}, line {line}, column {label!r}: {error}") from None
            try:
                pixels.extend(map(table.__getitem__, cells))
            except ValueError as error:
                column = len(pixels) % width  # the good cells of the row are in already
                name = header[column + (column >= position)]
                raise ValueError(f"csv: {path}, line {line}, column {name!r}: {error}") from None
    if not labels:
        raise ValueError(f"csv: {path} ends after its header; rows of numbers are expected.")
    t = np.array(labels, np.int32)
    if one_hot and classes is None:
        classes = int(t.max()) + 1
        if classes > _GUESSED_CLASSES:
            raise ValueError(
                f"csv: {path}: the largest label is {classes - 1}; if it is meant, say so by "
                f"classes={classes}."
            )
    images = np.frombuffer(pixels, np.float32).reshape(-1, *((width,) if flatten else (side, side)))
    return _prepare(images, t, 255, normalise, flatten, classes if one_hot else None)


# labels, shuffling, splitting
@overload
def one_hot(labels: jax.Array, classes: int) -> jax.Array: ...


@overload
def one_hot(labels: np.ndarray | Sequence | int, classes: int) -> np.ndarray: ...


def one_hot(labels: Array | Sequence | int, classes: int) -> Array:
    """Labels as rows with a single 1: y[..., c] = [labels = c].

    Shapes: labels (...) of integers -> (..., classes) float32; NumPy gives NumPy, JAX gives JAX.
    Raises TypeError for rows of unequal length; ValueError for labels that are not integers, or
    outside 0..classes-1 (values inside a traced function cannot be looked at: there a label outside
    gives a row of zeros).
    Source: the indicator coding of Bishop, Pattern Recognition and Machine Learning (2006), 4.1.2.

    >>> one_hot(np.array([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    _check_classes("one_hot", classes)
    if not isinstance(labels, jax.Array):
        try:
            labels = np.asarray(labels)
        except ValueError:
            raise TypeError(
                f"one_hot: labels is {told(labels)}, but an array of whole numbers is expected."
            ) from None
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"one_hot: labels are whole numbers, but came with dtype {labels.dtype}.")
    if not isinstance(labels, jax.core.Tracer):
        values = np.asarray(labels)
        outside = np.argwhere((values < 0) | (values >= classes))
        if len(outside):
            at = tuple(map(int, outside[0]))
            raise ValueError(
                f"one_hot: the label at {list(at)} is {values[at]}, but {classes} classes have "
                f"labels 0 to {classes - 1}."
            )
    numpy: Any = np if isinstance(labels, np.ndarray) else jnp
    return (labels[..., None] == numpy.arange(classes)).astype(np.float32)


def shuffle(key: Key, data: PyTree) -> PyTree:
    """The examples of `data` in a random order, the same order for every leaf.

    Shapes: `data` is any pytree of arrays (n, ...); shapes and dtypes stay, NumPy stays NumPy.
    Raises TypeError for what is no random key, ValueError for several of them, and when `data` is
    empty or its leaves disagree on n.
    Source: a uniform permutation drawn from the key by `jax.random.permutation`.

    >>> x, t = shuffle(jax.random.key(0), (np.arange(4.0) / 10, np.arange(4)))
    >>> sorted(t.tolist()), bool((x == t / 10).all())
    ([0, 1, 2, 3], True)
    """
    random_key("shuffle", key)
    return _take(data, _order(key, _count("shuffle", data)))


def split(key: Key, data: PyTree, validation: float = 0.2) -> tuple[PyTree, PyTree]:
    """(train, validation): `data` shuffled by the key, then cut in two.

    Shapes: `data` is any pytree of arrays (n, ...). `validation` is a fraction between 0 and 1, of
    which round(fraction · n) examples are made, or a whole number of examples. Dtypes stay, NumPy
    stays NumPy.
    Raises TypeError for what is no random key, ValueError for several of them, when `data` is
    empty, its leaves disagree on n, or one side would be empty.
    Source: the hold-out method, Hastie, Tibshirani & Friedman (2009), section 7.2.

    >>> train, validation = split(jax.random.key(0), (np.zeros((500, 64)), np.zeros(500)))
    >>> train[0].shape, validation[1].shape
    ((400, 64), (100,))
    """
    random_key("split", key)
    count = _count("split", data)
    if isinstance(validation, bool) or not isinstance(validation, Real):
        raise ValueError(
            f"split: validation is {validation!r}, expected a fraction such as 0.2 or a whole "
            "number of examples."
        )
    if isinstance(validation, Integral):
        held = int(validation)
        if held < 1:
            raise ValueError(f"split: validation is {held} examples, expected at least 1.")
    else:
        if not 0 < validation < 1:  # also turns away nan
            raise ValueError(
                f"split: validation is {validation}, expected a fraction between 0 and 1, or an "
                "int: a number of examples."
            )
        held = round(float(validation) * count)
    if not 0 < held < count:
        raise ValueError(
            f"split: validation={validation} of {count} examples leaves {count - held} to train "
            f"and {held} to validate; at least 1 of each is expected."
        )
    order = _order(key, count)
    return _take(data, order[held:]), _take(data, order[:held])


# pieces
_GUESSED_CLASSES = 100_000  # a wilder label in a file is a mistake more often than a class
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def _prepare(images, labels, top, normalise, flatten, classes) -> Dataset:
    """Images (n, ...) of values 0..top and labels (n,) as the caller asked for them."""
    x = images.astype(np.float32)
    if normalise:
        x /= top
    x = x.reshape(len(x), -1) if flatten else x[..., None]
    t = labels.astype(np.int32)
    return x, t if classes is None else one_hot(t, classes)


def _raw_or_gzipped(path: Path) -> Path | None:
    gzipped = path.with_name(path.name + ".gz")
    return path if path.is_file() else gzipped if gzipped.is_file() else None


def _images_and_labels(images_path, labels_path) -> Dataset:
    images, labels = idx(images_path), idx(labels_path)
    for path, found, axes, what in (
        (images_path, images, 3, "images (n, height, width)"),
        (labels_path, labels, 1, "labels (n,)"),
    ):
        if found.ndim != axes or found.dtype != np.uint8:
            raise ValueError(
                f"mnist: {path}: expected {what} of uint8, found the shape {found.shape} of "
                f"{found.dtype}; are images and labels in each other's place?"
            )
    if len(images) != len(labels):
        raise ValueError(
            f"mnist: {images_path} has {len(images)} images, but {labels_path} has {len(labels)} "
            "labels; the same number is expected."
        )
    if labels.max() > 9:
        at = int(np.argmax(labels > 9))
        raise ValueError(
            f"mnist: {labels_path}: label number {at} is {labels[at]}, expected 0 to 9."
        )
    return images, labels


class _Pixels(dict):
    """Cell -> pixel. Images have few distinct values, so each is parsed and checked once."""

    def __missing__(self, cell: str) -> float:
        value = _number(cell)
        if not 0 <= value <= 255:
            raise ValueError(f"expected a pixel from 0 to 255, found {_quoted(cell)}.")
        if len(self) < 10_000:
            self[cell] = value
        return value


def _number(cell: str) -> float:
    # float() alone would also take '1_000', 'nan' and the digits of other scripts
    if not _NUMBER.fullmatch(cell):
        raise ValueError(f"expected a number, found {_quoted(cell)}.")
    return float(cell)


def _label(cell: str, classes: int | None) -> int:
    value = _number(cell)
    end = 2**31 if classes is None else classes
    if not (0 <= value < end and value.is_integer()):
        limit = "" if classes is None else f" to {classes - 1}"
        raise ValueError(f"expected a whole number from 0{limit}, found {_quoted(cell)}.")
    return int(value)


def _rows(path: Path, file: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """The line number and the cells of every row that is not blank."""
    reader = csv_format.reader(_lines(path, file), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv_format.Error as error:
        raise ValueError(
            f"csv: {path}, line {reader.line_num}: expected comma-separated cells, but {error}."
        ) from error


def _lines(path: Path, file: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if b"\0" in line:
            raise ValueError(
                f"csv: {path}, line {number}: expected text, found a NUL at byte "
                f"{line.index(0)} of the line; is this a CSV file in UTF-8?"
            )
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"csv: {path}, line {number}: expected text in UTF-8, found the byte "
                f"0x{error.object[error.start]:02x}."
            ) from error


def _quoted(cell: str) -> str:
    return repr(cell if len(cell) <= 30 else cell[:30] + "…")


def _shortened(names: list[str]) -> str:
    if len(names) <= 6:
        return ", ".join(map(_quoted, names))
    return f"{', '.join(map(_quoted, names[:5]))}, … ({len(names)} columns)"


def _check_classes(speaker: str, classes) -> None:
    if isinstance(classes, bool) or not isinstance(classes, Integral) or classes < 1:
        raise ValueError(
            f"{speaker}: classes is {classes!r}, but a positive whole number is expected."
        )


def _count(speaker: str, data: PyTree) -> int:
    """The number of examples that all leaves agree on."""
    leaves = named_paths(speaker, data)
    if not leaves:
        raise ValueError(f"{speaker}: data {data!r} holds no array.")
    counts = []
    for path, leaf in leaves:
        name = f"data{jax.tree_util.keystr(path)}"
        if not np.ndim(leaf):
            raise ValueError(
                f"{speaker}: {name} is a single value, but an array with the examples on its "
                "leading axis is expected."
            )
        counts.append((name, np.shape(leaf)[0]))
    first, count = counts[0]
    for name, other in counts:
        if other != count:
            raise ValueError(
                f"{speaker}: {name} has {other} examples, but {first} has {count}; the leading "
                "axes are expected to be equal."
            )
    if not count:
        raise ValueError(f"{speaker}: {first} has no examples.")
    return count


def _order(key: Key, count: int) -> jax.Array:
    # int32 in float64 programs too: the same key gives the same order in both
    return jax.random.permutation(key, jnp.arange(count, dtype=jnp.int32))


def _take(data: PyTree, order: jax.Array) -> PyTree:
    def take(leaf):
        if isinstance(leaf, jax.Array) or isinstance(order, jax.core.Tracer):
            return jnp.asarray(leaf)[order]
        return np.asarray(leaf)[np.asarray(order)]

    return jax.tree.map(take, data)
