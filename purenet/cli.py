"""The command line: `purenet sweep | report | check`."""

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from purenet import data
from purenet._command import (
    given_points,
    remove_unstarted,
    results_folder,
    resume_command,
    stored_arguments,
)
from purenet._report_command import add_report, write_page, write_pages
from purenet._version import __version__
from purenet.core.validate import integer
from purenet.distributed import multihost
from purenet.distributed.devices import use_cpu_cores
from purenet.nn.losses import l2, softmax_cross_entropy
from purenet.nn.models import mlp
from purenet.optim.optimizers import sgd
from purenet.sweep import grid, halving, hyperband, loguniform, pbt, plan, random, run, sobol
from purenet.sweep.config import checked_seed
from purenet.sweep.results.result import Result
from purenet.sweep.storage.reading import REPORT, read_report
from purenet.training.supervised import supervised

_SHOWN = 20
_DIGITS: dict[str, Any] = {
    "images": 1000, "trials": 40, "epochs": 30, "rate": (0.01, 0.5), "weight_decay": (1e-6, 0.01),
}  # fmt: skip
# Published searches. The book is Saito, "Deep Learning from Scratch" (2016), section 6.5, which
# trains 100 networks.
_EXPERIMENTS = {
    "book": _DIGITS | {"images": 500, "epochs": 50, "rate": (1e-6, 0.01),
                       "weight_decay": (1e-8, 1e-4)},
}  # fmt: skip
_LOST = 20  # seconds without a heartbeat after which a process counts as dead


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for a failed check, 2 for a user error,
    130 after Ctrl-C. Raises SystemExit for options that argparse rejects.

    >>> main(["check", "--seed", "-1"])  # and one line on standard error
    2
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    if hasattr(options, "experiment"):
        options = _parser(_EXPERIMENTS[options.experiment]).parse_args(arguments)
    options.given = arguments
    try:
        return options.run(options)
    except UserError as error:
        print(f"purenet {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"purenet {options.command}: interrupted.", file=sys.stderr)
        return 130


class UserError(Exception):
    """A user error, explained in one line.

    >>> str(UserError("--trials is 0"))
    '--trials is 0'
    """


@contextlib.contextmanager
def _as_user_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds become a UserError of one line."""
    try:
        yield
    except kinds as error:
        raise UserError(_one_line(error)) from error


# purenet sweep
def _sweep(options) -> int:
    with _as_user_errors(ValueError, TypeError, OSError, ImportError):
        _start(options.process)
        if options.resume:
            given = [*stored_arguments(options), *options.given[1:]]
            options = _parser().parse_args([options.command, *given])
        arguments, search = _arguments(options), _SEARCHES[options.search](options)
        search["points"] = given_points(options)
        if options.plan:
            print(plan(*arguments, **search))
            return 0
        name = multihost.broadcast_bytes(lambda: str(results_folder(options)).encode())
    folder = Path(name.decode())
    try:
        result = run(*arguments, **search, path=folder, seconds=options.seconds, progress=True)
    except KeyboardInterrupt:
        print(f"\nresume with: {resume_command(folder, options)}", file=sys.stderr)
        raise
    except ConnectionError as error:
        raise UserError(
            f"{_one_line(error)}; start all processes with --out {folder} --resume."
        ) from error
    except (ValueError, OSError, RuntimeError) as error:
        if multihost.first():
            remove_unstarted(folder)
        raise UserError(_one_line(error)) from error
    if multihost.first():
        if not read_report(folder / REPORT)["finished"]:
            print(f"resume with: {resume_command(folder, options)}", file=sys.stderr)
        _tell(result, folder)
    return 0


def _tell(result: Result, folder: Path) -> None:
    """Print the best trials; write the table, the pictures and the page."""
    written = "settings.json, trials.jsonl, trials.csv, curves.npz, states.npz, report.json"
    result.to_csv(folder / "trials.csv")
    if (result.status == "diverged").all():
        raise UserError(f"every trial diverged, see {folder}; lower the learning rates (--rate).")
    if not result.ranked():
        raise UserError(f"no trial has been trained yet, see {folder}; increase --seconds.")
    for rank, best in enumerate(result.best(_SHOWN), 1):
        print(f"Best-{rank} {best}")
    pictures: dict[str, Callable[..., None]] = {"best.png": result.plot, "map.png": result.plot_map}
    if (result.status == "stopped").any():
        pictures["rungs.png"] = result.plot_rungs
    if result.lineage is not None:
        pictures["lineage.png"] = result.plot_lineage
    try:
        for name, draw in pictures.items():
            draw(folder / name)
            written += f", {name}"
    except ModuleNotFoundError as error:
        print(f"no pictures: {error}", file=sys.stderr)
    written += write_page(result, folder)
    print(
        f"{result.trials} trials, {result.epochs.sum()} trial-epochs in {result.seconds:.1f} s; "
        f"{folder}: {written}"
    )


def _start(process: list[str] | None) -> None:
    """One device per core; with --process, join the other processes."""
    if process is not None:
        _join(process)
    use_cpu_cores()


def _join(process: list[str]) -> None:
    number, count = (int(n) if n.isdecimal() else -1 for n in process[:2])
    host, _, port = process[2].rpartition(":")
    if not (0 <= number < count and host and port.isdecimal()):
        raise ValueError(
            f"--process is {' '.join(process)}, but a number from 0, the number of processes and "
            "HOST:PORT of process 0 are expected, such as 0 2 localhost:4000."
        )
    try:
        jax.distributed.initialize(
            process[2],
            count,
            number,
            # JAX listens on every interface by default
            coordinator_bind_address=process[2],
            heartbeat_timeout_seconds=_LOST,
            shutdown_timeout_seconds=_LOST,
        )
    except jax.errors.JaxRuntimeError as error:
        what = "listen at" if number == 0 else "reach process 0 at"
        raise ValueError(
            f"--process: process {number} cannot {what} {process[2]} ({error}); HOST must be a "
            "name or an address of the machine that runs process 0, and PORT a free port there."
        ) from error


def _arguments(options) -> tuple:
    """The arguments of `run` and `plan`: trial, space, data, trials, epochs, seed."""
    trials = integer("--trials", options.trials, least=1)
    epochs = integer("--epochs", options.epochs, least=1)
    seed = checked_seed("--seed", options.seed)
    images = integer("--images", options.images, least=10)
    space = {
        "rate": _range("--rate", options.rate),
        "weight decay": _range("--weight-decay", options.weight_decay),
    }
    x, t = _images(options)
    if images > len(x):
        raise ValueError(f"--images is {images}, but there are {len(x)} images.")
    parts = data.split(jax.random.key(seed), (x[:images], t[:images]), validation=0.2)

    def trial(hyper):
        return supervised(
            net=mlp(),
            sizes=(x.shape[1], *[100] * 6, 10),
            optimizer=sgd(hyper["rate"]),
            penalty=l2(hyper["weight decay"]),
            loss=softmax_cross_entropy,
            batch_size=100,
            batches="with_replacement",
        )

    return trial, space, parts, None if options.search == "grid" else trials, epochs, seed


# the search that `run` gets for each --search
_SEARCHES: dict[str, Callable[..., dict[str, Any]]] = {
    "random": lambda options: {"search": random},
    # as many values of each hyperparameter as --trials allows
    "grid": lambda options: {"search": grid(math.isqrt(options.trials))},
    "sobol": lambda options: {"search": sobol},
    "halving": lambda options: {"search": halving()},
    "hyperband": lambda options: {"search": hyperband()},
    "pbt": lambda options: {"search": pbt(every=max(1, options.epochs // 10))},
}


# purenet report
def _report(options) -> int:
    with _as_user_errors(ValueError, OSError, ImportError):
        return write_pages(options)


# purenet check
def _check(options) -> int:
    with _as_user_errors(ValueError):
        seed = integer("--seed", options.seed, least=0)
    from purenet import gradcheck

    reports = [gradcheck.report(dtype, seed) for dtype in gradcheck.TOLERANCES]
    print(gradcheck.table(*reports))
    return 0 if all(row.passed for rows in reports for row in rows) else 1


# options
class _Help(argparse.HelpFormatter):
    """Help that ends with the default of an option, as typed, if there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if default is None or default is False or default is argparse.SUPPRESS:
            return action.help
        values = default if isinstance(default, tuple) else (default,)
        return f"{action.help} (default: {' '.join(map(str, values))})"


def _parser(defaults: dict[str, Any] = _DIGITS) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="purenet", description="Train neural networks in JAX, hundreds of them in one program."
    )
    parser.add_argument("--version", action="version", version=f"purenet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_sweep(commands, defaults)
    add_report(commands, _Help).set_defaults(run=_report)
    _add_check(commands)
    return parser


def _add_sweep(commands, defaults: dict[str, Any]) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="search for a learning rate and a weight decay, all trials in one program",
        description="Train many networks in one compiled program, each with its own learning rate, "
        "weight decay and seed: 6 hidden layers of 100 relu units, He initialisation, SGD, "
        "minibatches of 100 drawn at random, a fifth of the images for validation. Print the best "
        "trials, draw their learning curves, and write settings, trials and curves to a folder.",
        formatter_class=_Help,
    )
    sweep.set_defaults(run=_sweep, **defaults)
    add = sweep.add_argument
    add("--experiment", choices=_EXPERIMENTS, default=argparse.SUPPRESS,
        help="start from the settings of a published search; other options override them. book: "
        "500 images, 50 epochs, rates 1e-6 to 1e-2, weight decays 1e-8 to 1e-4")  # fmt: skip
    add("--data", choices=("digits", "mnist"), default="digits",
        help="digits: the 8x8 digits of scikit-learn; mnist: 28x28 MNIST from "
        "--data-dir")  # fmt: skip
    add("--data-dir", metavar="DIR", help="folder of the four MNIST IDX files, raw or gzipped")
    add("--images", type=int, metavar="N",
        help="use the first N training images, a fifth of them for validation")  # fmt: skip
    add("--search", choices=_SEARCHES, default="random",
        help="random: independent random points; grid: evenly spaced, with as many values of each "
        "hyperparameter as --trials allows; sobol: more evenly spread than random; halving, "
        "hyperband: stop bad trials early; pbt: bad trials copy good ones")  # fmt: skip
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
    add("--process", nargs=3, metavar=("I", "N", "HOST:PORT"),
        help="share the sweep between N processes; this is process I, counted from 0. Start all of "
        "them with the same options. Process 0 writes the results and listens at HOST:PORT. Anyone "
        "who can reach that port can join, so use an address that only trusted machines can "
        "reach")  # fmt: skip
    add("--plan", action="store_true",
        help="measure for a few seconds, then print how the sweep would run and how long it would "
        "take")  # fmt: skip


def _add_check(commands) -> None:
    check = commands.add_parser(
        "check",
        help="check every hand-written gradient against automatic and numerical ones",
        description="Compare the hand-written gradient of every operation with automatic "
        "differentiation and with central differences, entry by entry, in float64 and float32, and "
        "print the largest errors. An error is relative to the entry, or to 1/100 of the largest "
        "entry if that is larger. The exit status is 1 if an error exceeds its tolerance.",
        formatter_class=_Help,
    )
    check.set_defaults(run=_check)
    check.add_argument("--seed", type=int, default=0, metavar="N",
        help="random seed for the sample arguments")  # fmt: skip


def _images(options):
    if options.data == "digits":
        if options.data_dir is not None:
            raise ValueError("--data-dir is only for --data mnist; the digits need no folder.")
        return data.digits()
    if options.data_dir is None:
        raise ValueError("--data mnist needs --data-dir, the folder of the four IDX files.")
    return data.mnist(options.data_dir)[0]


def _range(name, ends):
    try:
        return loguniform(*ends)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
