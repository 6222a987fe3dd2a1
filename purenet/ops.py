"""The raw operations on arrays: each has its hand-written rule, and `.plain` without it.

What is no array raises TypeError, by the names of the operation and of the argument: lists, None
and strings; plain numbers and arrays of NumPy are taken. Integers and bools count as floats, except
where they name places (`look_up`, class numbers) or only move (`relu`, `flatten`, `im2col`,
`col2im`).
"""

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
from purenet.layers.conv import col2im as col2im
from purenet.layers.conv import convolve as convolve
from purenet.layers.conv import im2col as im2col
from purenet.layers.dense import affine as affine
from purenet.layers.dropout import drop as drop
from purenet.layers.embedding import look_up as look_up
from purenet.layers.local_response_norm import local_response_normalise as local_response_normalise
from purenet.layers.norm import batch_normalise as batch_normalise
from purenet.layers.norm import layer_normalise as layer_normalise
from purenet.layers.norm import normalise as normalise
from purenet.layers.pool import global_avg_pool as global_avg_pool
from purenet.layers.pool import pool_average as pool_average
from purenet.layers.pool import pool_max as pool_max
from purenet.layers.reshape import flatten as flatten
from purenet.losses import half_sum_of_squares as half_sum_of_squares
from purenet.losses import mean_squared_error as mean_squared_error
from purenet.losses import softmax_cross_entropy as softmax_cross_entropy
from purenet.losses import sum_of_magnitudes as sum_of_magnitudes
