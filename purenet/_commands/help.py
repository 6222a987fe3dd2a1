"""The form of every command's help, and the error of a command that ends in one line."""

import argparse


class Help(argparse.HelpFormatter):
    """Help that ends with the default of an option, as typed, if there is one.

    >>> parser = argparse.ArgumentParser(formatter_class=Help)
    >>> _ = parser.add_argument("--seed", default=0, help="random seed")
    >>> "random seed (default: 0)" in parser.format_help()
    True
    """

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if default is None or default is False or default is argparse.SUPPRESS:
            return action.help
        values = default if isinstance(default, tuple) else (default,)
        return f"{action.help} (default: {' '.join(map(str, values))})"
