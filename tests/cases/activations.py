import numpy as np

from cases import Case
from purenet.nn import activations as activations

# both ends, both zeros and both sides of the kink, where overflow and the conventions show
EXTREMES = np.array([[-1000.0, -30.0, -1.0, -0.0], [0.0, 1.0, 30.0, 1000.0]])
PLAIN = (
    activations.relu,
    activations.selu,
    activations.gelu,
    activations.silu,
    activations.softplus,
    activations.sigmoid,
    activations.tanh,
)

CASES = {
    **{f.__name__: Case(f, ((2, 3),)) for f in PLAIN},
    **{f"{f.__name__}, extremes": Case(f, (EXTREMES,), differences=False) for f in PLAIN[:5]},
    "leaky_relu": Case(activations.leaky_relu, ((2, 3), np.array(0.2))),
    "leaky_relu, a slope a channel, extremes": Case(
        activations.leaky_relu, (EXTREMES, np.array([0.0, 0.1, 1.0, -0.5])), differences=False
    ),
    "elu": Case(activations.elu, ((2, 3), np.array(0.7))),
    "elu, an alpha a channel, extremes": Case(
        activations.elu, (EXTREMES, np.array([0.0, 0.5, 1.0, 2.0])), differences=False
    ),
    "softmax": Case(activations.softmax, ((2, 3),)),
    "softmax, one class": Case(activations.softmax, ((2, 1),)),
    "softmax, extremes and ties": Case(
        activations.softmax,
        (np.array([[1000.0, -1000.0, 1000.0], [0.0, 0.0, 0.0]]),),
        differences=False,
    ),
}
