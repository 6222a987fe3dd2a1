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
from purenet.core.validate import boolean
from purenet.data.arrays import check_classes
from purenet.data.images import Dataset, prepare


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
    boolean("csv", normalise=normalise, flatten=flatten, one_hot=one_hot)
    if classes is not None:
        check_classes("csv", classes)
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
    return prepare(images, t, 255, normalise, flatten, classes if one_hot else None)


# pieces
_GUESSED_CLASSES = 100_000  # a wilder label in a file is a mistake more often than a class
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


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
