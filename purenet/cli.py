"""The command line: `purenet sweep | check`."""

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from purenet import data
from purenet._version import __version__
from purenet.core.files import write_bytes
from purenet.core.json_text import json_bytes, read_json
from purenet.core.validate import integer
from purenet.distributed import multihost
from purenet.distributed.devices import use_cpu_cores
from purenet.nn.losses import l2, softmax_cross_entropy
from purenet.nn.models import mlp
from purenet.optim.optimizers import sgd
from purenet.sweep import grid, halving, hyperband, loguniform, pbt, plan, random, run, sobol
from purenet.sweep.config import checked_seed
from purenet.sweep.storage.reading import SETTINGS
from purenet.training.supervised import supervised

_SHOWN = 20
_DIGITS: dict[str, Any] = {
    "images": 1000, "trials": 40, "epochs": 30, "rate": (0.01, 0.5), "weight_decay": (1e-6, 0.01),
}  # fmt: skip
# Published searches. The book: Saito, "Deep Learning from Scratch" (2016), section 6.5, with 100
# trials.
_EXPERIMENTS = {
    "book": _DIGITS | {"images": 500, "epochs": 50, "rate": (1e-6, 0.01),
                       "weight_decay": (1e-8, 1e-4)},
}  # fmt: skip
_COMMAND = "command.json"  # the options below, as `--resume` finds them again
_OPTIONS = (
    "data", "data_dir", "images", "search", "trials", "epochs", "rate", "weight_decay", "seed"
)  # fmt: skip
_LOST = 20  # seconds after which a process that says nothing is given up


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 for a check that fails, or 2 for a mistake that the
    user can mend. Raises SystemExit for options that argparse does not know.

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
    """A mistake of the user's, told in one line.

    >>> str(UserError("--trials is 0"))
    '--trials is 0'
    """


def _sweep(options) -> int:
    try:
        _start(options.process)
        if options.resume:
            options = _recalled(options)
        arguments = _arguments(options)
        planned = plan(*arguments, **_SEARCHES[options.search](options)) if options.plan else None
        if planned is None:
            folder = Path(
                multihost.broadcast_bytes(lambda: str(_folder(options)).encode()).decode()
            )
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise UserError(_one_line(error)) from error
    if planned is not None:
        print(planned)
        return 0
    try:
        result = run(*arguments, **_SEARCHES[options.search](options), path=folder, progress=True)
    except KeyboardInterrupt:
        print(f"\nresume with: {_resuming(folder, options)}", file=sys.stderr)
        raise
    except ConnectionError as error:
        raise UserError(f"{_one_line(error)}; start all with --out {folder} --resume.") from error
    except (ValueError, OSError, RuntimeError) as error:
        if multihost.first():
            _forget(folder)
        raise UserError(_one_line(error)) from error
    if not multihost.first():
        return 0
    written = "settings.json, trials.jsonl, trials.csv, curves.npz, states.npz, report.json"
    result.to_csv(folder / "trials.csv")
    if (result.status == "diverged").all():
        raise UserError(f"every trial diverged, see {folder}; lower the learning rates of --rate.")
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
        print(f"no picture: {error}", file=sys.stderr)
    print(
        f"{result.trials} trials, {result.epochs.sum()} trial-epochs in {result.seconds:.1f} s; "
        f"{folder}: {written}"
    )
    return 0


def _start(process: list[str] | None) -> None:
    """One device a core, in this process and in those that belong to it."""
    if process is not None:
        number, count = (int(n) if n.isdecimal() else -1 for n in process[:2])
        host, _, port = process[2].rpartition(":")
        if not (0 <= number < count and host and port.isdecimal()):
            raise ValueError(
                f"--process is {' '.join(process)}, but this one's number from 0 on, how many "
                "there are and HOST:PORT of process 0 are expected, such as 0 2 localhost:4000."
            )
        try:
            jax.distributed.initialize(
                process[2],
                count,
                number,
                # JAX by itself listens on every interface
                coordinator_bind_address=process[2],
                heartbeat_timeout_seconds=_LOST,
                shutdown_timeout_seconds=_LOST,
            )
        except jax.errors.JaxRuntimeError as error:
            what = "listen at" if number == 0 else "reach process 0 at"
            raise ValueError(
                f"--process: process {number} cannot {what} {process[2]} ({error}); HOST is a name "
                "or an address of the machine of process 0, and PORT is free there."
            ) from error
    use_cpu_cores()


def _arguments(options) -> tuple:
    """What `run` and `plan` take: the trial, its space, the data, trials, epochs, seed."""
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
        raise ValueError(f"--images is {images}, but there are {len(x)}.")
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


# What each --search asks of `run`.
_SEARCHES: dict[str, Callable[..., dict[str, Any]]] = {
    "random": lambda options: {"search": random},
    # as many points each way as the number of trials has room for
    "grid": lambda options: {"search": grid(math.isqrt(options.trials))},
    "sobol": lambda options: {"search": sobol},
    "halving": lambda options: {"search": halving()},
    "hyperband": lambda options: {"search": hyperband()},
    "pbt": lambda options: {"search": pbt(every=max(1, options.epochs // 10))},
}


def _folder(options) -> Path:
    """Where the results go: a folder without any, unless they are to be gone on with."""
    if options.out == "":
        raise ValueError("--out is empty; name a folder, or leave it out.")
    folder = _named_folder(options)
    if not options.resume and (folder / SETTINGS).exists():
        raise ValueError(
            f"{folder} already holds the results of a sweep; name another folder, or go on with "
            "that one by --resume."
        )
    if options.resume and not any((folder / name).exists() for name in (SETTINGS, _COMMAND)):
        raise ValueError(f"{folder} holds no sweep to go on with; leave out --resume.")
    if not options.resume:
        folder.mkdir(parents=True, exist_ok=True)
        asked = {name: getattr(options, name) for name in _OPTIONS}
        if options.data_dir is not None:  # wherever it is resumed
            asked["data_dir"] = str(Path(options.data_dir).absolute())
        write_bytes(folder / _COMMAND, json_bytes(asked, indent=2))
    return folder


def _named_folder(options) -> Path:
    return Path(options.out or ("sweep-results" if options.resume else _unused("sweep-results")))


def _recalled(options) -> argparse.Namespace:
    """The options of the sweep in the folder, and on top of them those that are given now."""
    path = _named_folder(options) / _COMMAND
    content = multihost.broadcast_bytes(
        lambda: json_bytes(read_json(path) if path.exists() else {})
    )
    found, stored = json.loads(content), []
    for name in _OPTIONS:
        if (value := found.get(name)) is not None:
            values = value if isinstance(value, list) else [value]
            stored += ["--" + name.replace("_", "-"), *map(str, values)]
    return _parser().parse_args([options.command, *stored, *options.given[1:]])


def _resuming(folder: Path, options) -> str:
    """The command that resumes the sweep in a folder."""
    process = [] if options.process is None else ["--process", *options.process]
    return shlex.join(["purenet", "sweep", "--resume", "--out", str(folder), *process])


def _forget(folder: Path) -> None:
    """Leave nothing of a sweep that was refused before it began."""
    if not (folder / SETTINGS).exists():
        (folder / _COMMAND).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _check(options) -> int:
    try:
        seed = integer("--seed", options.seed, least=0)
    except ValueError as error:
        raise UserError(_one_line(error)) from error
    from purenet import gradcheck

    reports = [gradcheck.report(dtype, seed) for dtype in gradcheck.TOLERANCES]
    print(gradcheck.table(*reports))
    return 0 if all(row.passed for rows in reports for row in rows) else 1


def _parser(defaults: dict[str, Any] = _DIGITS) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="purenet", description="Neural networks in JAX, hundreds of them in one program."
    )
    parser.add_argument("--version", action="version", version=f"purenet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    sweep = commands.add_parser(
        "sweep",
        help="search for a learning rate and a weight decay, all trials in one program",
        description="Train many networks, each with its own learning rate, weight decay and seed, "
        "in one compiled program: 6 hidden layers of 100 relu units, He initialisation, SGD, "
        "minibatches of 100 drawn at random, a fifth of the images for validation. Prints the best "
        "trials, draws their learning curves and writes settings, rows and curves to a folder.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = sweep.add_argument
    add("--experiment", choices=_EXPERIMENTS, default=argparse.SUPPRESS,
        help="use the settings of a published search, except for the options that are given. "
        "book: 500 images, 50 epochs, rates from 1e-6 to 1e-2, weight decays from 1e-8 to "
        "1e-4")  # fmt: skip
    add("--data", choices=("digits", "mnist"), default="digits",
        help="8x8 digits that come with scikit-learn, or 28x28 MNIST from --data-dir")  # fmt: skip
    add("--data-dir", metavar="DIR", help="folder of the four MNIST IDX files, raw or gzipped")
    add("--images", type=int, metavar="N",
        help="the first N training images are used; a fifth of them validate")  # fmt: skip
    add("--search", choices=_SEARCHES, default="random",
        help="grid: evenly spaced, as many each way as --trials has room for; sobol: spread more "
        "evenly than by chance; halving, hyperband: the bad ones are stopped early; pbt: the bad "
        "ones copy the good ones")  # fmt: skip
    add("--trials", type=int, metavar="N", help="networks to train")
    add("--epochs", type=int, metavar="N", help="passes over the training images")
    add("--rate", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="range of the learning rate, weights changed per unit of gradient; every decade is as "
        "likely")  # fmt: skip
    add("--weight-decay", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="range of the L2 penalty's strength, loss per half squared weight; every decade is as "
        "likely")  # fmt: skip
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="whole number that everything random follows",
    )
    add("--out", metavar="DIR", help="new folder for the results; by itself sweep-results, "
        "sweep-results-2, ...")  # fmt: skip
    add("--resume", action="store_true",
        help="resume the sweep in --out (or sweep-results) with its own options")  # fmt: skip
    add("--process", nargs=3, metavar=("I", "N", "HOST:PORT"),
        help="be process I of N that share the sweep, from 0 on, all of them started like this; "
        "process 0 writes the results and listens at HOST:PORT, where whoever can reach the port "
        "can join: name an address that only trusted machines reach")  # fmt: skip
    add("--plan", action="store_true",
        help="measure for some seconds and say how the sweep would run, and how long")  # fmt: skip
    sweep.set_defaults(run=_sweep, **defaults)
    check = commands.add_parser(
        "check",
        help="compare every hand-written gradient with the automatic and the numerical one",
        description="Compare the hand-written gradient of every operation with the automatic one "
        "and with central differences, entry by entry, in float64 and in float32. An error is "
        "relative to the entry, or to a hundredth of the largest entry where that is more; the "
        "worst is printed. The exit status is 1 where one is above the tolerance.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    check.add_argument("--seed", type=int, default=0, metavar="N",
        help="whole number that the sample arguments follow")  # fmt: skip
    check.set_defaults(run=_check)
    return parser


def _images(options):
    if options.data == "digits":
        if options.data_dir is not None:
            raise ValueError("--data-dir belongs to --data mnist; the digits need no folder.")
        return data.digits()
    if options.data_dir is None:
        raise ValueError("--data mnist needs --data-dir, the folder of the four IDX files.")
    return data.mnist(options.data_dir)[0]


def _range(name, ends):
    try:
        return loguniform(*ends)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _unused(name: str) -> Path:
    path, number = Path(name), 1
    while path.exists():
        number += 1
        path = Path(f"{name}-{number}")
    return path


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
