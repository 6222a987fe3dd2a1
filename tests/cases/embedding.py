import numpy as np

from cases import Case
from purenet.nn.embedding import look_up

CASES = {
    "look_up": Case(look_up, ((4, 3), np.array([[1, 1, 3], [0, 1, 3]]))),
    "look_up, one row": Case(look_up, ((1, 2), np.array([0]))),
}
