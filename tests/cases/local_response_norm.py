import numpy as np

from cases import Case
from purenet.nn.local_response_norm import local_response_normalise

HYPER = (np.array(2.0), np.array(0.1), np.array(0.75))

CASES = {
    "local_response_normalise": Case(local_response_normalise, ((2, 2, 1, 7), *HYPER), (5,)),
    "local_response_normalise, fewer channels than n": Case(
        local_response_normalise, ((1, 2, 2, 2), *HYPER), (5,)
    ),
    "local_response_normalise, alone": Case(local_response_normalise, ((2, 3), *HYPER), (1,)),
}
