"""Many trials in one program: spaces, searches, the compiled population, and what it found.

Distributions of a hyperparameter
    uniform          evenly between two ends
    loguniform       every decade as likely
    normal           the normal distribution
    randint          integers
    lograndint       integers, every factor as likely
    choice           one of some values, or of some dicts with distributions of their own
    padded           integers as sizes: a program for each of a few capacities

Which points are tried
    random           by chance
    sobol            spread more evenly
    latin_hypercube  one in each of n equal parts
    grid             every combination
    from_optuna      an Optuna sampler's

Which are stopped early, or copied
    halving          only the best continue
    hyperband        several halvings side by side
    median_stopping  stops what falls behind the median
    pbt              the worst copy the best

Your own
    Sampler          which points are tried
    Scheduler        how long each of them is trained
    testing          check_sampler and check_scheduler, which ours pass too

Running
    run              trains all trials and ranks them
    plan             how `run` would go, and how long it takes
    load             the result in a folder
    AskTell          the search alone, for a loop of your own

What they return
    Result           best(), table(), curves, replay, pictures, files
    Trial            one trial: its numbers and scores
    Run              one trial trained again: its state and curves
    Plan             what `plan` found
    Lineage          who copied whom in a population
"""

from purenet.sweep import testing as testing
from purenet.sweep._plan import Plan as Plan
from purenet.sweep._plan import plan as plan
from purenet.sweep._run import run as run
from purenet.sweep.ask_tell import AskTell as AskTell
from purenet.sweep.engine.records import Lineage as Lineage
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
    "Lineage",
    "Plan",
    "Result",
    "Run",
    "Sampler",
    "Scheduler",
    "Trial",
    "choice",
    "from_optuna",
    "grid",
    "halving",
    "hyperband",
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
