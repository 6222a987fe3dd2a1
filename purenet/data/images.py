"""The digits of scikit-learn, and MNIST in its four IDX files."""

import importlib.util
import os
from pathlib import Path

import numpy as np

from purenet.core.extras import extra
from purenet.core.files import as_path
from purenet.core.validate import Boolean, declared, require
from purenet.data._idx import idx as idx
from purenet.data.arrays import one_hot

Dataset = tuple[np.ndarray, np.ndarray]  # (x, t)


# the sources
@declared
def digits(normalise: Boolean = True, flatten: Boolean = True, one_hot: Boolean = False) -> Dataset:
    """The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn.

    Shapes: x (1797, 64) float32, or (1797, 8, 8, 1) with `flatten=False`, in [0, 1] or, with
    `normalise=False`, the raw 0..16; t (1797,) int32, or (1797, 10) float32 with `one_hot`.
    Raises ModuleNotFoundError without scikit-learn.
    Source: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).

    >>> x, t = digits()
    >>> x.shape, t.shape, float(x.max())
    ((1797, 64), (1797,), 1.0)
    """
    rows = _digits()
    images = rows[:, :-1].reshape(-1, 8, 8)
    return prepare(images, rows[:, -1], 16, normalise, flatten, 10 if one_hot else None)


@declared
def mnist(
    directory: str | os.PathLike,
    normalise: Boolean = True,
    flatten: Boolean = True,
    one_hot: Boolean = False,
) -> tuple[Dataset, Dataset]:
    """MNIST, or a set in the same four IDX files: (train, test), each (x, t).

    Shapes: x (n, 784) float32, or (n, 28, 28, 1) with `flatten=False`, in [0, 1] or, with
    `normalise=False`, the raw 0..255; t (n,) int32, or (n, 10) float32 with `one_hot`.
    The files are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte, each raw, or gzipped with the suffix .gz.
    Raises FileNotFoundError for missing files; ValueError for damaged ones (see `idx`), for swapped
    files, counts that differ, and labels outside 0..9; TypeError if `directory` is not a path.
    Source: LeCun, Cortes & Burges, The MNIST database of handwritten digits (1998).

    >>> mnist("no-such-folder")
    Traceback (most recent call last):
    FileNotFoundError: mnist: no-such-folder is not a directory; looked there for ...
    """
    directory = as_path("mnist", directory)
    names = [
        (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")
    ]
    everything = [name for pair in names for name in pair]
    require(
        directory.is_dir(),
        f"mnist: {directory} is not a directory; looked there for {', '.join(everything)}, each "
        "raw or with .gz.",
        FileNotFoundError,
    )
    paths = {name: _raw_or_gzipped(directory / name) for name in everything}
    missing = [name for name, path in paths.items() if path is None]
    require(
        not missing,
        f"mnist: {directory} lacks {', '.join(missing)}; looked for each with and without .gz.",
        FileNotFoundError,
    )
    train, test = (_images_and_labels(paths[x], paths[t]) for x, t in names)
    one, other = (images.shape[1:] for images, _ in (train, test))
    require(
        one == other,
        f"mnist: {directory}: the training images have the shape {one}, but the test images "
        f"{other}; the same shape is expected.",
    )
    classes = 10 if one_hot else None
    return (
        prepare(*train, 255, normalise, flatten, classes),
        prepare(*test, 255, normalise, flatten, classes),
    )


def prepare(
    images: np.ndarray,
    labels: np.ndarray,
    top: int,
    normalise: bool,
    flatten: bool,
    classes: int | None,
) -> Dataset:
    """Images (n, ...) of values 0..top and labels (n,) as the caller asked for them."""
    x = images.astype(np.float32)
    if normalise:
        x /= top
    x = x.reshape(len(x), -1) if flatten else x[..., None]
    t = labels.astype(np.int32)
    return x, t if classes is None else one_hot(t, classes)


def _digits() -> np.ndarray:
    """The 64 pixels and the label of each digit, (1797, 65)."""
    package = importlib.util.find_spec("sklearn")
    folders = (package and package.submodule_search_locations) or ()
    for path in (Path(folder, "datasets/data/digits.csv.gz") for folder in folders):
        if path.is_file():  # read in milliseconds, where importing scikit-learn takes a second
            return np.loadtxt(path, np.uint8, delimiter=",")
    datasets = extra("sklearn.datasets", "digits: the digits come with scikit-learn", "examples")
    x, t = datasets.load_digits(return_X_y=True)
    return np.column_stack([x, t])


def _raw_or_gzipped(path: Path) -> Path | None:
    gzipped = path.with_name(path.name + ".gz")
    return path if path.is_file() else gzipped if gzipped.is_file() else None


def _images_and_labels(images_path, labels_path) -> Dataset:
    images, labels = idx(images_path), idx(labels_path)
    for path, found, axes, what in (
        (images_path, images, 3, "images (n, height, width)"),
        (labels_path, labels, 1, "labels (n,)"),
    ):
        require(
            found.ndim == axes and found.dtype == np.uint8,
            f"mnist: {path}: expected {what} of uint8, found the shape {found.shape} of "
            f"{found.dtype}; are images and labels swapped?",
        )
    require(
        len(images) == len(labels),
        f"mnist: {images_path} has {len(images)} images, but {labels_path} has {len(labels)} "
        "labels; the same number is expected.",
    )
    at = int(np.argmax(labels > 9))
    text = f"mnist: {labels_path}: label number {at} is {labels[at]}, expected 0 to 9."
    require(labels[at] <= 9, text)
    return images, labels
