"""`purenet check`: every hand-written gradient, checked."""

import argparse
from typing import Any

from purenet._commands.help import Help
from purenet.core.validate import integer


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "check",
        help="check every hand-written gradient against automatic and numerical ones",
        description="Compare the hand-written gradient of every operation with automatic "
        "differentiation and with central differences, entry by entry, in float64 and float32, and "
        "print the largest errors. An error is relative to the entry, or to 1/100 of the largest "
        "entry if that is larger. The exit status is 1 if an error exceeds its tolerance.",
        formatter_class=Help,
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N",
        help="random seed for the sample arguments")  # fmt: skip
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the table of errors. Returns 1 if one exceeds its tolerance."""
    seed = integer("--seed", options.seed, least=0)
    from purenet import gradcheck

    reports = [gradcheck.report(dtype, seed) for dtype in gradcheck.TOLERANCES]
    print(gradcheck.table(*reports))
    return 0 if all(row.passed for rows in reports for row in rows) else 1
