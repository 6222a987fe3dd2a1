"""Many trials in one program: spaces, searches, the compiled population, and what it found."""

from purenet.sweep.asking import AskTell as AskTell
from purenet.sweep.asking import from_optuna as from_optuna
from purenet.sweep.loading import load as load
from purenet.sweep.planning import Plan as Plan
from purenet.sweep.planning import plan as plan
from purenet.sweep.population import Lineage as Lineage
from purenet.sweep.population import pbt as pbt
from purenet.sweep.result import Result as Result
from purenet.sweep.result import Run as Run
from purenet.sweep.result import Trial as Trial
from purenet.sweep.runner import run as run
from purenet.sweep.search import Search as Search
from purenet.sweep.search import halving as halving
from purenet.sweep.search import hyperband as hyperband
from purenet.sweep.search import median as median
from purenet.sweep.space import choice as choice
from purenet.sweep.space import grid as grid
from purenet.sweep.space import latin_hypercube as latin_hypercube
from purenet.sweep.space import loguniform as loguniform
from purenet.sweep.space import normal as normal
from purenet.sweep.space import randint as randint
from purenet.sweep.space import random as random
from purenet.sweep.space import sobol as sobol
from purenet.sweep.space import uniform as uniform
