"""Train many trials in one program: spaces, searches, the compiled sweep, and its results.

Distributions of a hyperparameter
    uniform          evenly between two ends
    loguniform       all decades equally likely
    normal           the normal distribution
    randint          integers
    lograndint       integers, uniform on a log scale
    choice           one of several values, or of several dicts with their own distributions
    padded           integers as sizes, with one program for each of a few capacities

Which points to try
    random           independent random points
    sobol            more evenly spread than random
    latin_hypercube  one value in each of n equal parts
    grid             every combination
    from_optuna      points from an Optuna sampler

Which to stop early, or copy
    halving          only the best continue
    hyperband        several halvings side by side
    median_stopping  stops points that fall behind the median
    pbt              the worst copy the best
    freeze_thaw      a model of the curves decides which go on, and which start
    descent          all walk down their own hypergradients

Your own
    Sampler          which points to try
    Scheduler        how long to train each of them
    testing          check_sampler and check_scheduler, for samplers and schedulers of your own

Running
    run              trains all trials and ranks them
    plan             predicts how `run` would go, and how long it would take
    load             reads the result in a folder
    AskTell          the search alone, for a loop of your own
    coordinate_check  how far networks of several widths move
    hypergradient    the derivative of a whole training with respect to its hyperparameters

What they return
    Result           best(), table(), curves, replay, pictures, files
    Trial            one trial: its hyperparameters and scores
    Run              one retrained trial: its state and curves
    Plan             what `plan` returns
    Coordinates      what `coordinate_check` returns
    Hypergradient    what `hypergradient` returns
    SweepProgress    how far a sweep is: what on_report gets
    Lineage          who copied whom in a population
"""

from purenet.sweep import testing as testing
from purenet.sweep._hypergradient import Hypergradient as Hypergradient
from purenet.sweep._hypergradient import hypergradient as hypergradient
from purenet.sweep._plan import Plan as Plan
from purenet.sweep._plan import plan as plan
from purenet.sweep._run import run as run
from purenet.sweep.ask_tell import AskTell as AskTell
from purenet.sweep.coordinates import Coordinates as Coordinates
from purenet.sweep.coordinates import coordinate_check as coordinate_check
from purenet.sweep.engine.records import Lineage as Lineage
from purenet.sweep.journal import SweepProgress as SweepProgress
from purenet.sweep.results.load import load as load
from purenet.sweep.results.networks import Run as Run
from purenet.sweep.results.result import Result as Result
from purenet.sweep.results.trials import Trial as Trial
from purenet.sweep.samplers.base import Sampler as Sampler
from purenet.sweep.samplers.designs import grid as grid
from purenet.sweep.samplers.designs import latin_hypercube as latin_hypercube
from purenet.sweep.samplers.designs import random as random
from purenet.sweep.samplers.designs import sobol as sobol
from purenet.sweep.samplers.optuna import from_optuna as from_optuna
from purenet.sweep.schedulers.base import Scheduler as Scheduler
from purenet.sweep.schedulers.descent import descent as descent
from purenet.sweep.schedulers.freeze_thaw import freeze_thaw as freeze_thaw
from purenet.sweep.schedulers.halving import halving as halving
from purenet.sweep.schedulers.halving import hyperband as hyperband
from purenet.sweep.schedulers.median import median_stopping as median_stopping
from purenet.sweep.schedulers.pbt import pbt as pbt
from purenet.sweep.space.distributions import choice as choice
from purenet.sweep.space.distributions import lograndint as lograndint
from purenet.sweep.space.distributions import loguniform as loguniform
from purenet.sweep.space.distributions import normal as normal
from purenet.sweep.space.distributions import randint as randint
from purenet.sweep.space.distributions import uniform as uniform
from purenet.sweep.space.padded import padded as padded

__all__ = [
    "AskTell",
    "Coordinates",
    "Hypergradient",
    "Lineage",
    "Plan",
    "Result",
    "Run",
    "Sampler",
    "Scheduler",
    "SweepProgress",
    "Trial",
    "choice",
    "coordinate_check",
    "descent",
    "freeze_thaw",
    "from_optuna",
    "grid",
    "halving",
    "hyperband",
    "hypergradient",
    "latin_hypercube",
    "load",
    "lograndint",
    "loguniform",
    "median_stopping",
    "normal",
    "padded",
    "pbt",
    "plan",
    "randint",
    "random",
    "run",
    "sobol",
    "testing",
    "uniform",
]


def __dir__() -> list[str]:
    return list(__all__)
