"""Tables of numbers and words, as a network takes them.

A column of numbers is standardised; a column of words becomes one column per word, 1 where the word
stands and 0 elsewhere. What is learnt from a table for this, an `Encoding`, is plain text and
numbers, so it can be stored with the network.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purenet.core.files import as_path, open_file
from purenet.core.validate import require
from purenet.data._csv import NUMBER, csv_rows, number_in, quoted

_MISSING = ("", "na", "n/a", "nan", "null", "?")
_WORDS = 100  # a column with more different words is more likely text or a name than a category
_CLASSES = 20  # a target with more distinct integers is taken for a quantity


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a CSV file by column, and the line of each row in the file."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self, chosen: np.ndarray) -> "Table":
        """The table of these rows."""
        columns = {name: [cells[i] for i in chosen] for name, cells in self.columns.items()}
        return Table(self.path, columns, [self.lines[i] for i in chosen])

    def column(self, name: str) -> list[str]:
        """A column. Raises ValueError, with those there are, for any other name."""
        known = ", ".join(map(quoted, self.columns))
        require(name in self.columns, f"{self.path} has no column {name!r}; it has {known}.")
        return self.columns[name]


def read_table(path: str | os.PathLike) -> Table:
    """A CSV file with a header line, cell by cell.

    Raises FileNotFoundError if there is no file; ValueError, with the file and the line, for a file
    that is not such a table.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("age,town\\n41,Kyoto\\n")
    ...     read_table(f"{folder}/a.csv").columns
    {'age': ['41'], 'town': ['Kyoto']}
    """
    path = as_path("table", path)
    with open_file(path, "table") as file:
        rows = csv_rows(path, file)
        _, header = next(rows, (0, []))
        require(len(header) > 0, f"{path} is empty; a line with the names of columns is expected.")
        names = [name.strip() or f"column {i}" for i, name in enumerate(header, 1)]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, f"{path} has several columns {twice}; rename all but one.")
        lines, cells = [], []
        for line, row in rows:
            text = f"{path}, line {line}: expected {len(names)} cells as in the header"
            require(len(row) == len(names), f"{text}, found {len(row)}.")
            lines.append(line)
            cells.append([cell.strip() for cell in row])
    require(len(lines) > 0, f"{path} has no rows below its header.")
    columns = dict(zip(names, map(list, zip(*cells, strict=True)), strict=True))
    return Table(path, columns, lines)


class Column(NamedTuple):
    """A column: of words if it has any, else of numbers, which are standardised.

    >>> table = Table(Path("a.csv"), {"age": ["41", ""]}, [2, 3])
    >>> Column("age", mean=40.0, scale=2.0).values(table)
    array([0.5, nan])
    """

    name: str
    words: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    def values(self, table: Table) -> np.ndarray:
        """The standardised numbers, or the places of the words in `words`: (n,), NaN where missing.

        Raises ValueError, with the line, for any other cell.
        """
        found = [self._value(table, i, cell) for i, cell in enumerate(table.column(self.name))]
        return (np.array(found, float) - self.mean) / self.scale

    def inputs(self, table: Table) -> np.ndarray:
        """What a network takes: (n, 1), or (n, words); 0 where a cell is missing."""
        values = self.values(table)
        if self.words:
            return (values[:, None] == np.arange(len(self.words))).astype(np.float32)
        return np.nan_to_num(values, nan=0.0)[:, None].astype(np.float32)

    def _value(self, table: Table, row: int, cell: str) -> float:
        if is_missing(cell):
            return np.nan
        where = f"{table.path}, line {table.lines[row]}, column {self.name!r}"
        if not self.words:
            legal = NUMBER.fullmatch(cell) is not None
            require(legal, f"{where}: expected a number as in training, found {quoted(cell)}.")
            return number_in(cell)
        known = ", ".join(map(quoted, self.words[:10])) + ", …" * (len(self.words) > 10)
        text = f"{where}: {quoted(cell)} did not occur in training; known are {known}."
        require(cell in self.words, text)
        return self.words.index(cell)


class Encoding(NamedTuple):
    """How the rows of a table become inputs x and targets t of a network, and back.

    >>> Encoding((Column("age"),), Column("town", ("Kyoto", "Nara")), False).classes
    ('Kyoto', 'Nara')
    """

    columns: tuple[Column, ...]
    target: Column
    fill: bool  # whether cells may be missing

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, empty for a regression."""
        return self.target.words

    @property
    def width(self) -> int:
        """The number of inputs of the network."""
        return len(self.numeric)

    @property
    def numeric(self) -> np.ndarray:
        """Which inputs are numbers, not words: (width,)."""
        return np.repeat(
            [not column.words for column in self.columns],
            [len(column.words) or 1 for column in self.columns],
        )

    def x(self, table: Table) -> np.ndarray:
        """The inputs: (n, width) float32. Raises ValueError for cells unlike those in training."""
        for column in () if self.fill else self.columns:
            absent = [i for i, cell in enumerate(table.column(column.name)) if is_missing(cell)]
            hint = "train with --missing fill for a network that accepts missing cells."
            where = f"{table.path}, line {table.lines[absent[0]]}" if absent else ""
            require(not absent, f"{where}: the cell of column {column.name!r} is missing; {hint}")
        return np.concatenate([column.inputs(table) for column in self.columns], axis=1)

    def t(self, table: Table) -> np.ndarray:
        """The targets: (n,) int32 classes, or (n, 1) float32 standardised numbers."""
        if self.classes:
            name = self.target.name
            labels = {name: _labels(table.column(name))}
            table = dataclasses.replace(table, columns=labels)
            return self.target.values(table).astype(np.int32)
        return self.target.values(table).astype(np.float32)[:, None]

    def standardised_by(self, table: Table) -> "Encoding":
        """The encoding with the means and standard deviations of this table's numbers."""

        def fitted(column: Column) -> Column:
            if column.words:
                return column
            values = column._replace(mean=0.0, scale=1.0).values(table)
            known = values[~np.isnan(values)]
            mean, scale = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
            return column._replace(mean=mean, scale=scale if scale > 0 else 1.0)

        return self._replace(columns=tuple(map(fitted, self.columns)), target=fitted(self.target))

    def as_json(self) -> dict[str, Any]:
        """The encoding in values that JSON can hold."""
        return {
            "columns": [column._asdict() for column in self.columns],
            "target": self.target._asdict(),
            "fill": self.fill,
        }

    def described(self) -> str:
        """What was seen in the table, in two lines."""
        name, words = self.target.name, self.classes
        shown = ", ".join(words[:5]) + ", …" * (len(words) > 5)
        kind = f"classification, {len(words)} classes ({shown})" if words else "regression"
        worded = [column for column in self.columns if column.words]
        numbers = len(self.columns) - len(worded)
        inputs = f"{self.width} input{'s' * (self.width != 1)} of a network"
        counts = f"{numbers} numeric, {len(worded)} categorical"
        return f"target {name}: {kind}\ncolumns: {counts}; {inputs}"


def encoding_of(found: Any) -> Encoding:
    """The encoding that `as_json` gave. Raises ValueError for anything else.

    >>> made = Encoding((Column("age", (), 40.0, 2.0),), Column("town", ("Kyoto", "Nara")), True)
    >>> encoding_of(made.as_json()) == made
    True
    """
    column = lambda c: Column(
        str(c["name"]), tuple(map(str, c["words"])), float(c["mean"]), float(c["scale"])
    )
    try:
        columns = tuple(map(column, found["columns"]))
        return Encoding(columns, column(found["target"]), bool(found["fill"]))
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError("its description of columns is damaged.") from error


def is_missing(cell: str) -> bool:
    """Whether a cell holds nothing, or one of the usual words for that.

    >>> is_missing("NA"), is_missing("0")
    (True, False)
    """
    return cell.lower() in _MISSING


# what a table is
def learn_encoding(
    table: Table,
    target: str,
    ignore: Sequence[str] = (),
    categorical: Sequence[str] = (),
    task: str | None = None,
    missing: str | None = None,
) -> tuple[Encoding, Table]:
    """The encoding of a table, not standardised yet, and the table of the rows to use.

    A column is one of numbers unless it holds a word or is named in `categorical`. The target is
    one of classes if it holds words, or at most 20 different whole numbers, or if `task` says so.
    Raises ValueError, with the column, for cells that are neither, and for missing cells unless
    `missing` is "drop" or "fill".

    >>> table = Table(Path("a.csv"), {"age": ["41", "38"], "town": ["Kyoto", "Nara"]}, [2, 3])
    >>> print(learn_encoding(table, "town")[0].described())
    target town: classification, 2 classes (Kyoto, Nara)
    columns: 1 numeric, 0 categorical; 1 input of a network
    """
    for name in (target, *ignore, *categorical):
        table.column(name)
    require(target not in ignore, f"the target {target!r} is in --ignore; leave it out there.")
    names = [name for name in table.columns if name != target and name not in ignore]
    require(len(names) > 0, f"{table.path} has no column besides the target {target!r}.")
    table = _without_missing(table, names, target, missing)
    columns = tuple(_learn(table, name, name in categorical) for name in names)
    return Encoding(columns, _learn_target(table, target, task), missing == "fill"), table


def _without_missing(table: Table, names: list[str], target: str, missing: str | None) -> Table:
    """The rows that have a target, and unless they are filled, all other cells too."""
    absent = {
        name: np.array([is_missing(cell) for cell in table.columns[name]])
        for name in (*names, target)
    }
    counts = {name: int(gaps.sum()) for name, gaps in absent.items() if gaps.any()}
    without = np.any([*absent.values()], axis=0)
    told = ", ".join(f"{name!r} {count}" for name, count in counts.items())
    require(
        not counts or missing is not None,
        f"{table.path} has missing cells in {without.sum()} of {len(table)} rows (by column: "
        f"{told}). --missing drop leaves out these rows; --missing fill puts the mean of a column "
        "in place of a number, and no category in place of a word.",
    )
    kept = np.flatnonzero(~(absent[target] if missing == "fill" else without))
    require(len(kept) > 0, f"{table.path}: every row has a missing cell (by column: {told}).")
    return table.rows(kept)


def _learn(table: Table, name: str, categorical: bool) -> Column:
    present = [
        (line, cell)
        for line, cell in zip(table.lines, table.columns[name], strict=True)
        if not is_missing(cell)
    ]
    where = f"{table.path}, column {name!r}"
    require(len(present) > 0, f"{where} has no values; leave it out with --ignore {name}")
    words = [(line, cell) for line, cell in present if not NUMBER.fullmatch(cell)]
    if not words and not categorical:
        return Column(name)
    line, cell = words[0] if words else present[0]
    require(
        categorical or 2 * len(words) > len(present),
        f"{where} holds numbers, but in line {line} {quoted(cell)}; correct the file, or, if its "
        f"values are categories, pass --categorical {name}",
    )
    found = tuple(sorted({cell for _, cell in present}))
    require(
        categorical or len(found) <= _WORDS,
        f"{where} holds {len(found)} different words, such as {quoted(cell)}; leave it out with "
        f"--ignore {name}, or, if they are categories, pass --categorical {name}",
    )
    return Column(name, found)


def _learn_target(table: Table, name: str, task: str | None) -> Column:
    cells, where = table.columns[name], f"{table.path}: the target {name!r}"
    words = [cell for cell in cells if not NUMBER.fullmatch(cell)]
    cell = quoted(words[0]) if words else ""
    text = f"{where} holds {cell}, but a regression expects numbers; pass --task classification."
    require(task != "regression" or not words, text)
    labels = sorted(set(_labels(cells)), key=lambda label: (not words and float(label), label))
    whole = all(not label.count(".") for label in labels)
    few = len(labels) <= (_WORDS if words else _CLASSES)
    many = f"{where} holds {len(labels)} different words, such as {cell}, which are hardly classes"
    require(task is not None or few or not words, f"{many}; if they are, --task classification.")
    if task == "regression" or (task is None and not words and not (whole and few)):
        return Column(name)
    require(len(labels) > 1, f"{where} is {labels[0]} in every row; there is nothing to learn.")
    return Column(name, tuple(labels))


def _labels(cells: Sequence[str]) -> list[str]:
    """Class labels: of whole numbers, 1 and 1.0 are the same."""

    def label(cell: str) -> str:
        if is_missing(cell) or not NUMBER.fullmatch(cell):
            return cell
        value = number_in(cell)
        return str(int(value)) if value.is_integer() else repr(value)

    return list(map(label, cells))
