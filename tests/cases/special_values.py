"""Values at which rules tend to break: far tails, NaN, and logits of -∞."""

import numpy as np

from cases import Case
from purenet.nn import activations as activations
from purenet.nn.pool import pool_max

TAIL = np.array([[-700.0, -80.0, -45.0], [-37.5, -20.0, 3.0]])
NAN = float("nan")
WITH_NAN = np.array([[1.0, NAN, 0, 2], [NAN, 4, 2, 1], [3, 0, 5, 5], [0, 3, NAN, 4]])

CASES = {
    "elu, the left tail": Case(activations.elu, (TAIL, np.array(0.7)), differences=False),
    "selu, the left tail": Case(activations.selu, (TAIL,), differences=False),
    "pool_max, NaN": Case(pool_max, (WITH_NAN.reshape(1, 4, 4, 1),), (2, None, 0), False),
    "pool_max, NaN, overlapping": Case(
        pool_max, (WITH_NAN.reshape(1, 4, 4, 1),), (3, 1, 1), differences=False
    ),
}
