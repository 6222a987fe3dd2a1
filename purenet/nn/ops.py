"""The raw operations on arrays: each has a hand-written rule; `.plain` is the same without it.

Anything but an array raises TypeError, by the names of the operation and of the argument: lists,
None and strings; plain numbers and NumPy arrays are accepted. Integers and bools count as floats,
except where they are indices (`look_up`, class numbers) or are only moved (`relu`, `flatten`,
`im2col`, `col2im`).
"""

from purenet.nn.activations import elu as elu
from purenet.nn.activations import gelu as gelu
from purenet.nn.activations import leaky_relu as leaky_relu
from purenet.nn.activations import relu as relu
from purenet.nn.activations import selu as selu
from purenet.nn.activations import sigmoid as sigmoid
from purenet.nn.activations import silu as silu
from purenet.nn.activations import softmax as softmax
from purenet.nn.activations import softplus as softplus
from purenet.nn.activations import tanh as tanh
from purenet.nn.attention import attend as attend
from purenet.nn.conv import convolve as convolve
from purenet.nn.conv_transpose import convolve_transposed as convolve_transposed
from purenet.nn.dense import affine as affine
from purenet.nn.dropout import drop as drop
from purenet.nn.dropout import drop_padded as drop_padded
from purenet.nn.embedding import look_up as look_up
from purenet.nn.flatten import flatten as flatten
from purenet.nn.group_norm import group_normalise as group_normalise
from purenet.nn.layer_norm import layer_normalise as layer_normalise
from purenet.nn.local_response_norm import local_response_normalise as local_response_normalise
from purenet.nn.losses import half_sum_of_squares as half_sum_of_squares
from purenet.nn.losses import huber as huber
from purenet.nn.losses import mean_squared_error as mean_squared_error
from purenet.nn.losses import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from purenet.nn.losses import softmax_cross_entropy as softmax_cross_entropy
from purenet.nn.losses import sum_of_magnitudes as sum_of_magnitudes
from purenet.nn.norm import batch_normalise as batch_normalise
from purenet.nn.norm import batch_normalise_padded as batch_normalise_padded
from purenet.nn.norm import normalise as normalise
from purenet.nn.periodic import periodic_features as periodic_features
from purenet.nn.pool import global_avg_pool as global_avg_pool
from purenet.nn.pool import pool_average as pool_average
from purenet.nn.pool import pool_max as pool_max
from purenet.nn.recurrent import gru_states as gru_states
from purenet.nn.recurrent import gru_states_padded as gru_states_padded
from purenet.nn.recurrent import lstm_states as lstm_states
from purenet.nn.recurrent import lstm_states_padded as lstm_states_padded
from purenet.nn.rms_norm import rms_normalise as rms_normalise
from purenet.nn.windows import col2im as col2im
from purenet.nn.windows import im2col as im2col
