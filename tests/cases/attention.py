import numpy as np

from cases import Case
from purenet.nn.attention import attend

HIDDEN = np.array([[True, True, False], [False, False, False]])

CASES = {
    "attend, padding, one example hidden": Case(
        attend, ((2, 4, 1, 2), (2, 3, 1, 2), (2, 3, 1, 1), HIDDEN), (False, 3)
    ),
    "attend, padding, probabilities kept": Case(
        attend, ((2, 3, 1, 2), (2, 3, 1, 2), (2, 3, 1, 1), HIDDEN), (True, 64)
    ),
    "attend, causal, more blocks than groups": Case(
        attend, ((1, 6, 1, 2), (1, 6, 1, 2), (1, 6, 1, 2), HIDDEN[:1].repeat(2, 1)), (True, 1)
    ),
}
