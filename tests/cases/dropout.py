import jax
import numpy as np

from cases import Case
from purenet.nn.dropout import drop, drop_padded

# finite differences cannot follow the rate: the mask jumps where they step
CASES = {
    "drop": Case(drop, ((3, 5), np.array(0.4), jax.random.key(3)), differences=False),
    "drop, a rate a channel, a raw key": Case(
        drop, ((2, 2, 3), np.array([0.0, 0.3, 0.9]), jax.random.PRNGKey(3)), differences=False
    ),
    "drop_padded": Case(
        drop_padded,
        ((3, 2, 5), np.array(0.4), jax.random.key(3), np.array(2), np.array(4)),
        differences=False,
    ),
}
