"""How results and runs display at a prompt and in a notebook: as a few lines, or a table."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from purenet.core.types import PyTree

_WIDTH = 100  # characters of a line
_LINES = 10


def as_text(headline: str, table: str) -> str:
    """A headline and a table, cut to ten lines of 100 characters.

    >>> print(as_text("Result: 1 trial", "rank  trial\\n   1      0"))
    Result: 1 trial
    rank  trial
       1      0
    """
    lines = [headline, *table.splitlines()]
    cut = [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…" for line in lines]
    return "\n".join(cut if len(cut) <= _LINES else [*cut[: _LINES - 1], "..."])


def as_html(headline: str, rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """A headline, a table whose first row is the header, and notes below; all text is escaped.

    >>> as_html("1 trial", [["rate"], ["<0.1>"]], [])
    '<p>1 trial</p><table><tr><th>rate</th></tr><tr><td>&lt;0.1&gt;</td></tr></table>'
    """
    cells = lambda kind, row: "".join(f"<{kind}>{html.escape(c)}</{kind}>" for c in row)
    header, *body = rows
    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in body)
    paragraph = lambda text: f"<p>{html.escape(text)}</p>"
    table = f"<table><tr>{cells('th', header)}</tr>{lines}</table>"
    return paragraph(headline) + table + "".join(map(paragraph, notes))


def run_text(name: str, state: PyTree, curves: Mapping[str, Mapping[str, Any]]) -> str:
    """A training run in one line: epochs, last values of the curves, size of the state.

    >>> run_text("Fit", {"w": 1.0}, {"train": {"loss": [0.5, 0.25]}})
    'Fit: 2 epochs, train loss 0.25; state of 1 numbers in 1 leaves'
    """
    named = {f"{part} {n}": curve for part, group in curves.items() for n, curve in group.items()}
    epochs = [f"{max(map(len, named.values()))} epochs"] if named else []
    last = [f"{n} {float(curve[-1]):.4g}" for n, curve in named.items() if len(curve)]
    leaves = jax.tree.leaves(state)
    count = sum(getattr(leaf, "size", 1) for leaf in leaves)
    parts = [", ".join([*epochs, *last])] if named else []
    parts.append(f"state of {count:,} numbers in {len(leaves)} leaves")
    return f"{name}: {'; '.join(parts)}"
