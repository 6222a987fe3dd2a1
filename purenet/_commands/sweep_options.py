"""The options of `purenet sweep`."""

from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction
from collections.abc import Callable, Iterable
from typing import Any

from purenet._commands import jobs
from purenet._commands.help import Help


def add_to(commands: Any, experiments: Iterable[str], searches: Iterable[str]) -> ArgumentParser:
    """Add the command to a parser's commands."""
    sweep = commands.add_parser(
        "sweep",
        help="search for the best hyperparameters, all trials in one program",
        description="Train many networks in one compiled program, each with its own learning rate, "
        "weight decay and seed. By default, images: 6 hidden layers of 100 relu units, He "
        "initialisation, SGD, minibatches of 100 drawn at random. With --data FILE.csv --target "
        "COLUMN, a table: 2 hidden layers of 100 relu units, Adam. A fifth of the examples is for "
        "validation. Or your own trial function. Print the best trials, draw their learning "
        "curves, and write settings, trials, curves and the best network to a folder.",
        formatter_class=Help,
    )
    add = sweep.add_argument
    add("--experiment", choices=experiments, default=SUPPRESS,
        help="start from the settings of a published search; other options override them. book: "
        "500 images, 50 epochs, rates 1e-6 to 1e-2, weight decays 1e-8 to 1e-4")  # fmt: skip
    add(
        "trial",
        nargs="?",
        metavar="MODULE:TRIAL",
        help="your own trial function, such as my_module:trial; needs --space and --data",
    )
    add("--space", metavar="MODULE:SPACE", help="the space of your trial function")
    add("--data", default="digits", metavar="DATA",
        help="digits: the 8x8 digits of scikit-learn; mnist: 28x28 MNIST from --data-dir; a CSV "
        "file, with --target; my_module:data, a pair (train, validation), or one data set with "
        "--folds, or a function that returns it")  # fmt: skip
    jobs.add_table_options(add)
    add("--folds", type=int, metavar="K",
        help="cross-validate each point in K folds instead of a validation part")  # fmt: skip
    add("--patience", type=int, metavar="N",
        help="end a trial when N epochs in a row have not improved it; its best epoch "
        "counts")  # fmt: skip
    add("--data-dir", metavar="DIR", help="folder of the four MNIST IDX files, raw or gzipped")
    add("--images", type=int, metavar="N",
        help="use the first N training images, a fifth of them for validation")  # fmt: skip
    add("--search", choices=searches, default="random",
        help="random: independent random points; grid: evenly spaced, with as many values of each "
        "hyperparameter as --trials allows; sobol: more evenly spread than random; halving, "
        "hyperband: stop bad trials early; pbt: bad trials copy good ones")  # fmt: skip
    _add_more(add)
    return sweep


def _add_more(add: Callable[..., Any]) -> None:
    """The options of every search and every job."""
    add("--trials", type=int, metavar="N", help="number of networks to train")
    add("--epochs", type=int, metavar="N", help="passes over the training images")
    add("--rate", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="range of the learning rate, sampled uniformly on a log scale")  # fmt: skip
    add("--weight-decay", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="range of the weight decay (the factor of half the sum of squared weights in the "
        "loss), sampled uniformly on a log scale")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="random seed")
    add("--out", metavar="DIR",
        help="new folder for the results; defaults to sweep-results, or if that exists, to "
        "sweep-results-2, ...")  # fmt: skip
    add("--resume", nargs="?", const=True, default=False, metavar="FOLDER",
        help="resume the sweep in FOLDER (or in --out, or in sweep-results) with the options it "
        "was started with; only --trials and --epochs may be increased")  # fmt: skip
    add("--points", metavar="FILE",
        help="JSON file with a list of points to try first: "
        '[{"rate": 0.1, "weight decay": 1e-6}]')  # fmt: skip
    add("--seconds", type=float, metavar="S",
        help="stop training after about S seconds; resume with --resume")  # fmt: skip
    add("--report", action=BooleanOptionalAction,
        help="write report.html, a page for a browser; without either option it is written if "
        "plotly is installed, with --report its absence is an error at the start")  # fmt: skip
    add("--process", nargs=3, metavar=("I", "N", "HOST:PORT"),
        help="share the sweep between N processes; this is process I, counted from 0. Start all of "
        "them with the same options. Process 0 writes the results and listens at HOST:PORT. Anyone "
        "who can reach that port can join, so use an address that only trusted machines can "
        "reach")  # fmt: skip
    add("--plan", action="store_true",
        help="measure for a few seconds, then print how the sweep would run and how long it would "
        "take")  # fmt: skip
