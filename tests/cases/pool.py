import numpy as np

from cases import Case
from purenet.nn.pool import global_avg_pool, pool_average, pool_max

TIES = np.array([[1.0, 1, 0, 2], [1, 1, 2, 2], [3, 0, 5, 5], [0, 3, 5, 4]]).reshape(1, 4, 4, 1)

CASES = {
    "pool_max": Case(pool_max, ((2, 4, 6, 2),), (2, None, 0)),
    "pool_max, ties": Case(pool_max, (TIES,), (2, None, 0), differences=False),
    "pool_max, overlapping ties": Case(pool_max, (TIES,), (3, 1, 1), differences=False),
    "pool_max, a remainder": Case(pool_max, ((1, 5, 6, 1),), ((2, 3), 3, 0)),
    "pool_max, padding": Case(pool_max, ((1, 4, 3, 2),), (3, 2, (1, 2))),
    "pool_average": Case(pool_average, ((2, 4, 6, 2),), ((2, 3), None, 0)),
    "pool_average, overlapping, padding": Case(pool_average, ((1, 4, 5, 1),), (3, 2, (1, 0))),
    "global_avg_pool": Case(global_avg_pool, ((2, 3, 2, 3),)),
}
