"""The command line: `purenet sweep | train | predict | report | check`."""

import argparse
import contextlib
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
from purenet._commands import cache, check, jobs, predict, sweep_options, train
from purenet._commands.closing import closing, print_best
from purenet._commands.help import Help
from purenet._commands.modules import origin, referred
from purenet._report_command import add_report, require_report, write_page, write_pages
from purenet._version import __version__
from purenet.core.validate import integer, require
from purenet.distributed import multihost
from purenet.distributed.devices import use_cpu_cores
from purenet.nn.losses import l2, softmax_cross_entropy
from purenet.nn.models import mlp
from purenet.optim.optimizers import sgd
from purenet.sweep import grid, halving, hyperband, loguniform, pbt, plan, random, run, sobol
from purenet.sweep.config import checked_seed
from purenet.sweep.results.figures import varied
from purenet.sweep.results.result import Result
from purenet.sweep.space.space import take_apart
from purenet.sweep.storage.reading import REPORT, read_report
from purenet.training.supervised import supervised

_DIGITS: dict[str, Any] = {
    "images": 1000, "trials": 40, "epochs": 30, "rate": (0.01, 0.5), "weight_decay": (1e-6, 0.01),
}  # fmt: skip
# Published searches. The book is Saito, "Deep Learning from Scratch" (2016), section 6.5, which
# trains 100 networks.
_EXPERIMENTS = {
    "book": _DIGITS | {"images": 500, "epochs": 50, "rate": (1e-6, 0.01),
                       "weight_decay": (1e-8, 1e-4)},
}  # fmt: skip
_TABLE: dict[str, Any] = {
    "images": None, "trials": 40, "epochs": 50, "rate": (1e-4, 0.03), "weight_decay": (1e-6, 0.01),
}  # fmt: skip
_OWN: dict[str, Any] = _TABLE | {"rate": None, "weight_decay": None}
_LOST = 20  # seconds without a heartbeat after which a process counts as dead


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for a failed check, 2 for a user error,
    130 after Ctrl-C. Raises SystemExit for options that argparse rejects.

    >>> main(["check", "--seed", "-1"])  # and one line on standard error
    2
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _options_of(arguments)
    options.given = arguments
    if not getattr(options, "no_cache", True):
        cache.use(cache.folder())
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
        raise UserError(_one_line(error) + origin(error)) from error


def _explained(command: Callable[..., int]) -> Callable[..., int]:
    def run(options) -> int:
        with _as_user_errors(ValueError, TypeError, OSError, ImportError):
            return command(options)

    return run


# purenet sweep
def _sweep(options) -> int:
    with _as_user_errors(ValueError, TypeError, OSError, ImportError):
        _start(options.process)
        if options.resume:
            given = [*stored_arguments(options), *options.given[1:]]
            options = _options_of([options.command, *given])
        if options.report:
            require_report()
        job, sizes = _job(options), _sizes(options)
        arguments = job.trial, job.space, job.data, *sizes
        search = _SEARCHES[options.search](options) | _shared_options(options)
        if options.plan:
            print(plan(*arguments, **search))
            return 0
        name = multihost.broadcast_bytes(lambda: str(results_folder(options)).encode())
    folder = Path(name.decode())
    try:
        result: Result = run(
            *arguments, **search, path=folder, seconds=options.seconds, progress=True
        )
    except KeyboardInterrupt:
        print(f"\nresume with: {resume_command(folder, options)}", file=sys.stderr)
        raise
    except ConnectionError as error:
        raise UserError(
            f"{_one_line(error)}; start all processes with --out {folder} --resume."
        ) from error
    except Exception as error:
        if multihost.first():
            remove_unstarted(folder)
        if not isinstance(error, (ValueError, TypeError, OSError, RuntimeError)):
            raise  # an error in one's own trial function, with its traceback
        raise UserError(_one_line(error) + origin(error)) from error
    if multihost.first():
        if not read_report(folder / REPORT)["finished"]:
            print(f"resume with: {resume_command(folder, options)}", file=sys.stderr)
        _tell(result, folder, options.report)
        if options.trial is not None or options.target is not None:
            _save_best(job, result, folder / jobs.MODEL)
    return 0


def _save_best(job: jobs.Job, result: Result, path: Path) -> None:
    try:
        job.save_best(result, path)
    except ValueError as error:  # a training loop or a layer that a file cannot describe
        print(f"no {path.name}: {_one_line(error)}", file=sys.stderr)
        return
    print(f"the best network: {path}")
    if job.encoding is not None:
        print(f"predict with it: purenet predict {path} --data FILE.csv")


def _tell(result: Result, folder: Path, report: bool | None) -> None:
    """Print the best trials; write the table, the pictures and the page."""
    result.to_csv(folder / "trials.csv")
    if (result.status == "diverged").all():
        raise UserError(f"every trial diverged, see {folder}; lower the learning rates (--rate).")
    if not result.ranked():
        raise UserError(f"no trial has been trained yet, see {folder}; increase --seconds.")
    print_best(result)
    columns = len(varied(result.outcomes))
    pictures: dict[str, Callable[..., None]] = {"best.png": result.plot}
    if 2 <= columns <= 6:
        pictures["map.png"] = result.plot_map
    elif columns:
        pictures["slices.png"] = result.plot_slices
    if (result.status == "stopped").any():
        pictures["rungs.png"] = result.plot_rungs
    if result.lineage is not None:
        pictures["lineage.png"] = result.plot_lineage
    written = []
    try:
        for name, draw in pictures.items():
            draw(folder / name)
            written.append(name)
    except ModuleNotFoundError as error:
        print(f"no pictures: {error}", file=sys.stderr)
    page = [] if report is False else write_page(result, folder)
    print(closing(result, folder, [*written, "trials.csv", *page]))


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


def _sizes(options) -> tuple[int | None, int, int]:
    """The trials, the epochs and the seed."""
    trials = integer("--trials", options.trials, least=1)
    epochs = integer("--epochs", options.epochs, least=1)
    seed = checked_seed("--seed", options.seed)
    return None if options.search == "grid" else trials, epochs, seed


def _shared_options(options) -> dict[str, Any]:
    """The options of `run` and `plan` that are typed as they are called."""
    folds = options.folds and integer("--folds", options.folds, least=2)
    patience = options.patience and integer("--patience", options.patience, least=1)
    return {"points": given_points(options), "folds": folds, "patience": patience}


def _job(options) -> jobs.Job:
    """What is trained: one's own trial function, or networks for a table or for images."""
    _sizes(options)
    if options.trial is not None:
        own, space = jobs.own_job(options), referred("--space", options.space or "")
        options.dimensions = len(take_apart(space).distributions)
        return own._replace(space=space)
    require(
        options.space is None,
        f"--space is {options.space}, but it needs a trial function of yours: purenet sweep "
        "my_module:trial --space my_module:space.",
    )
    space = {
        "rate": _range("--rate", options.rate),
        "weight decay": _range("--weight-decay", options.weight_decay),
    }
    job = _image_job(options) if options.target is None else jobs.table_job(options)
    return job._replace(space=space)


def _image_job(options) -> jobs.Job:
    jobs.check_no_table(options)
    images = integer("--images", options.images, least=10)
    x, t = _images(options)
    require(images <= len(x), f"--images is {images}, but there are {len(x)} images.")
    x, t = x[:images], t[:images]
    held_out = lambda: data.split(jax.random.key(options.seed), (x, t), validation=0.2)

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

    return jobs.Job(trial, None, held_out() if options.folds is None else (x, t))


# the search that `run` gets for each --search
_SEARCHES: dict[str, Callable[..., dict[str, Any]]] = {
    "random": lambda options: {"search": random},
    # as many values of each hyperparameter as --trials allows
    "grid": lambda options: {"search": grid(_points_each(options))},
    "sobol": lambda options: {"search": sobol},
    "halving": lambda options: {"search": halving()},
    "hyperband": lambda options: {"search": hyperband()},
    "pbt": lambda options: {"search": pbt(every=max(1, options.epochs // 10))},
}


def _points_each(options) -> int:
    """The points of each hyperparameter in a grid of at most --trials points."""
    dimensions = max(1, getattr(options, "dimensions", 2))
    points = round(options.trials ** (1 / dimensions))
    return max(1, points - (points**dimensions > options.trials))


# purenet report
def _report(options) -> int:
    with _as_user_errors(ValueError, OSError, ImportError):
        return write_pages(options)


# options
def _options_of(arguments: list[str]) -> argparse.Namespace:
    """The options, with the defaults of the job that they ask for."""
    options = _parser().parse_args(arguments)
    if hasattr(options, "experiment"):
        return _parser(_EXPERIMENTS[options.experiment]).parse_args(arguments)
    if options.command == "sweep" and options.trial is not None:
        return _parser(_OWN).parse_args(arguments)
    if options.command == "sweep" and options.target is not None:
        return _parser(_TABLE).parse_args(arguments)
    return options


def _parser(defaults: dict[str, Any] = _DIGITS) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="purenet", description="Train neural networks in JAX, hundreds of them in one program."
    )
    parser.add_argument("--version", action="version", version=f"purenet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    sweep_options.add_to(commands, _EXPERIMENTS, _SEARCHES).set_defaults(run=_sweep, **defaults)
    add_report(commands, Help).set_defaults(run=_report)
    for command in (train, predict, check):
        command.add_to(commands).set_defaults(run=_explained(command.run))
    for name in ("sweep", "train", "predict", "check"):
        cache.add_to(commands.choices[name])
    return parser


def _images(options):
    require(
        options.data in ("digits", "mnist"),
        f"--data is {options.data}, but digits, mnist, or a CSV file with --target is expected; "
        "data of a module goes with a trial function of yours.",
    )
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
