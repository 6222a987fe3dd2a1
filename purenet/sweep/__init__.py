"""Many trials in one program: spaces, the compiled population, and what it found."""

from purenet.sweep.result import Result as Result
from purenet.sweep.result import Run as Run
from purenet.sweep.result import Trial as Trial
from purenet.sweep.search import run as run
from purenet.sweep.space import choice as choice
from purenet.sweep.space import grid as grid
from purenet.sweep.space import loguniform as loguniform
from purenet.sweep.space import normal as normal
from purenet.sweep.space import randint as randint
from purenet.sweep.space import random as random
from purenet.sweep.space import sobol as sobol
from purenet.sweep.space import uniform as uniform
