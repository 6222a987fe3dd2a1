"""The raw operations on arrays: each has its hand-written rule, and `.plain` without it."""

from purenet.layers.activations import elu as elu
from purenet.layers.activations import gelu as gelu
from purenet.layers.activations import leaky_relu as leaky_relu
from purenet.layers.activations import relu as relu
from purenet.layers.activations import selu as selu
from purenet.layers.activations import sigmoid as sigmoid
from purenet.layers.activations import silu as silu
from purenet.layers.activations import softmax as softmax
from purenet.layers.activations import softplus as softplus
from purenet.layers.activations import tanh as tanh
from purenet.layers.dense import affine as affine
from purenet.layers.dropout import drop as drop
from purenet.layers.norm import batch_normalise as batch_normalise
from purenet.layers.norm import layer_normalise as layer_normalise
from purenet.layers.norm import normalise as normalise
from purenet.layers.reshape import flatten as flatten
from purenet.losses import half_sum_of_squares as half_sum_of_squares
from purenet.losses import mean_squared_error as mean_squared_error
from purenet.losses import softmax_cross_entropy as softmax_cross_entropy
from purenet.losses import sum_of_magnitudes as sum_of_magnitudes
