"""Tables of numbers and labels in CSV files."""

import csv as csv_format
import math
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from purenet.core.files import as_path, open_file
from purenet.core.validate import Boolean, declared, require
from purenet.data.arrays import check_classes
from purenet.data.images import Dataset, prepare


@declared
def csv(
    path: str | os.PathLike,
    label: str = "label",
    normalise: Boolean = True,
    flatten: Boolean = True,
    one_hot: Boolean = False,
    classes: int | None = None,
) -> Dataset:
    """Images in a CSV file: a header line, a column of labels anywhere, and columns of pixels.

    Shapes: x (n, p) float32 for p pixel columns in their order, or (n, √p, √p, 1) with
    `flatten=False`; values 0..255, divided by 255 when `normalise`. t (n,) int32, or
    (n, classes) float32 with `one_hot`, where `classes` is the largest label + 1 unless given.
    Raises FileNotFoundError if there is no file; ValueError, with the file, the line and what was
    expected there, if it is not such a table; TypeError if `path` is not a path.
    Source: the common CSV form of MNIST (a `label` and 784 pixels); RFC 4180.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("label,pixel0,pixel1\\n7,0,255\\n1,51,0\\n")
    ...     x, t = csv(Path(folder, "a.csv"))
    >>> x.tolist(), t.tolist()
    ([[0.0, 1.0], [0.20000000298023224, 0.0]], [7, 1])
    """
    path = as_path("csv", path)
    if classes is not None:
        check_classes("csv", classes)
    with open_file(path, "csv") as file:
        rows = csv_rows(path, file)
        line, header = next(rows, (0, []))
        header = [name.strip() for name in header]
        position = _label_column(path, line, header, label, flatten)
        pixels, labels = _cells(path, rows, header, position, classes)
    require(len(labels) > 0, f"csv: {path} ends after its header; rows of numbers are expected.")
    t = np.array(labels, np.int32)
    if one_hot and classes is None:
        classes = int(t.max()) + 1
        require(
            classes <= _GUESSED_CLASSES,
            f"csv: {path}: the largest label is {classes - 1}; if that is intended, pass "
            f"classes={classes}.",
        )
    width = len(header) - 1
    shape = (width,) if flatten else (math.isqrt(width),) * 2
    images = np.frombuffer(pixels, np.float32).reshape(-1, *shape)
    return prepare(images, t, 255, normalise, flatten, classes if one_hot else None)


def _label_column(path: Path, line: int, header: list[str], label: str, flatten: bool) -> int:
    """The column of the labels, in a header that has one and pixels beside it."""
    require(
        len(header) > 0,
        f"csv: {path} is empty; a header line with the column {label!r} is expected.",
    )
    where, count, width = f"csv: {path}, line {line}", header.count(label), len(header) - 1
    require(
        count == 1,
        f"{where}: expected one column {label!r} in the header, found {count or 'none'} among "
        f"{_shortened(header)}.",
    )
    require(width > 0, f"{where}: expected pixel columns besides {label!r}, found none.")
    require(
        flatten or math.isqrt(width) ** 2 == width,
        f"{where}: {width} pixel columns are not a square image, which flatten=False expects; use "
        "flatten=True and reshape x yourself.",
    )
    return header.index(label)


def _cells(path: Path, rows, header: list[str], position: int, classes: int | None):
    """(pixels, labels) of all rows."""
    table, pixels, labels = _Pixels(), array("f"), array("i")
    width = len(header) - 1
    for line, cells in rows:
        found, column = len(cells), position
        try:
            require(
                found == width + 1, f"expected {width + 1} cells as in the header, found {found}."
            )
            labels.append(_label(cells.pop(position), classes))
            column = -1  # the good cells of the row will be in `pixels` already
            pixels.extend(map(table.__getitem__, cells))
        except ValueError as error:
            if column < 0:
                column = len(pixels) % width
                column += column >= position
            at = f", column {header[column]!r}" if found == width + 1 else ""
            raise ValueError(f"csv: {path}, line {line}{at}: {error}") from None
    return pixels, labels


# pieces
_GUESSED_CLASSES = 100_000  # a larger label in a file is more likely a mistake than a class
NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


class _Pixels(dict):
    """Cell -> pixel. Images have few distinct values, so each is parsed and checked once."""

    def __missing__(self, cell: str) -> float:
        value = number_in(cell)
        require(0 <= value <= 255, f"expected a pixel from 0 to 255, found {quoted(cell)}.")
        if len(self) < 10_000:
            self[cell] = value
        return value


def number_in(cell: str) -> float:
    """The number that a cell holds. Raises ValueError for anything else.

    >>> number_in(" 1e3")
    1000.0
    """
    # float() alone would also accept '1_000', 'nan' and the digits of other scripts
    require(bool(NUMBER.fullmatch(cell)), f"expected a number, found {quoted(cell)}.")
    return float(cell)


def _label(cell: str, classes: int | None) -> int:
    value = number_in(cell)
    end = 2**31 if classes is None else classes
    limit = "" if classes is None else f" to {classes - 1}"
    require(
        0 <= value < end and value.is_integer(),
        f"expected an integer from 0{limit}, found {quoted(cell)}.",
    )
    return int(value)


def csv_rows(path: Path, file: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """The line number and the cells of every row that is not blank.

    Raises ValueError, with the file and the line, for what is not CSV in UTF-8.

    >>> import io
    >>> list(csv_rows(Path("a.csv"), io.BytesIO(b"a,b\\n\\n1,2\\n")))
    [(1, ['a', 'b']), (3, ['1', '2'])]
    """
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
        require(
            b"\0" not in line,
            f"csv: {path}, line {number}: expected text, found a NUL at byte {line.find(0)} of the "
            "line; is this a CSV file in UTF-8?",
        )
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"csv: {path}, line {number}: expected text in UTF-8, found the byte "
                f"0x{error.object[error.start]:02x}."
            ) from error


def quoted(cell: str) -> str:
    """A cell as an error shows it, which ends after 30 characters.

    >>> quoted("seven")
    "'seven'"
    """
    return repr(cell if len(cell) <= 30 else cell[:30] + "…")


def _shortened(names: list[str]) -> str:
    if len(names) <= 6:
        return ", ".join(map(quoted, names))
    return f"{', '.join(map(quoted, names[:5]))}, … ({len(names)} columns)"
