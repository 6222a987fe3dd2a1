import numpy as np

from cases import Case
from purenet.nn.layer_norm import layer_normalise
from purenet.nn.norm import batch_normalise, batch_normalise_padded, normalise

EPS = np.array(1e-2)
POSITIVE = np.array([0.5, 1.0, 2.0])

CASES = {
    "batch_normalise": Case(batch_normalise, ((4, 3), (3,), (3,), EPS)),
    "batch_normalise, images, an eps a channel": Case(
        batch_normalise, ((2, 2, 2, 3), (3,), (3,), np.array([1e-2, 1e-1, 1.0]))
    ),
    "batch_normalise, one example": Case(batch_normalise, ((1, 3), (3,), (3,), EPS)),
    "batch_normalise, ties": Case(
        batch_normalise, (np.full((3, 1), 5.0), (1,), (1,), np.array(1.0))
    ),
    "batch_normalise_padded": Case(batch_normalise_padded, ((5, 3), (3,), (3,), EPS, np.array(3))),
    "batch_normalise_padded, images, an eps a channel": Case(
        batch_normalise_padded,
        ((3, 2, 2, 3), (3,), (3,), np.array([1e-2, 1e-1, 1.0]), np.array(2)),
    ),
    "batch_normalise_padded, one row of three": Case(
        batch_normalise_padded, ((3, 3), (3,), (3,), EPS, np.array(1))
    ),
    "batch_normalise_padded, no padding": Case(
        batch_normalise_padded, ((4, 3), (3,), (3,), EPS, np.array(4))
    ),
    "normalise": Case(normalise, ((2, 2, 1, 3), (3,), POSITIVE, (3,), (3,), EPS)),
    "layer_normalise": Case(layer_normalise, ((2, 1, 2, 3), (3,), (3,), EPS)),
    "layer_normalise, one channel": Case(layer_normalise, ((2, 1), (1,), (1,), EPS)),
}
