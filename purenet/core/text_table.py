"""Tables as text."""

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], left: int = 0, gap: int = 2) -> list[str]:
    """The lines of a table, every column as wide as its longest cell.

    The first `left` columns are aligned left and the others right, `gap` blanks apart.

    >>> print(*text_table([("layer", "bytes"), ("0 dense", "52,000")], left=1), sep="\\n")
    layer     bytes
    0 dense  52,000
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = lambda i, cell: cell.ljust(widths[i]) if i < left else cell.rjust(widths[i])
    return [(" " * gap).join(align(i, cell) for i, cell in enumerate(row)) for row in rows]
