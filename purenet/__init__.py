"""Neural networks as pure functions, with hand-written gradients; hundreds trained in one program.

This file decides what is public.
"""

from purenet import data as data
from purenet import initializers as initializers
from purenet import ops as ops
from purenet import schedules as schedules
from purenet import sweep as sweep
from purenet.compose import residual as residual
from purenet.compose import serial as serial
from purenet.devices import use_cpu_cores as use_cpu_cores
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
from purenet.layers.dense import dense as dense
from purenet.layers.dropout import dropout as dropout
from purenet.layers.norm import batch_norm as batch_norm
from purenet.layers.norm import layer_norm as layer_norm
from purenet.layers.reshape import flatten as flatten
from purenet.losses import accuracy as accuracy
from purenet.losses import l1 as l1
from purenet.losses import l2 as l2
from purenet.losses import mean_squared_error as mean_squared_error
from purenet.losses import softmax_cross_entropy as softmax_cross_entropy
from purenet.nets import mlp as mlp
from purenet.optimizers import adadelta as adadelta
from purenet.optimizers import adagrad as adagrad
from purenet.optimizers import adam as adam
from purenet.optimizers import adamw as adamw
from purenet.optimizers import lion as lion
from purenet.optimizers import momentum as momentum
from purenet.optimizers import nadam as nadam
from purenet.optimizers import nesterov as nesterov
from purenet.optimizers import rmsprop as rmsprop
from purenet.optimizers import sgd as sgd
from purenet.rules import hand_vjp as hand_vjp
from purenet.rules import jvp as jvp
from purenet.summary import summary as summary
from purenet.training import Fit as Fit
from purenet.training import fit as fit
from purenet.training import supervised as supervised
from purenet.transforms import add_weight_decay as add_weight_decay
from purenet.transforms import apply_updates as apply_updates
from purenet.transforms import averaged_weights as averaged_weights
from purenet.transforms import chain as chain
from purenet.transforms import clip as clip
from purenet.transforms import clip_by_global_norm as clip_by_global_norm
from purenet.transforms import exponential_moving_average as exponential_moving_average
from purenet.transforms import scale_by_schedule as scale_by_schedule
from purenet.types import Layer as Layer
from purenet.types import Optimizer as Optimizer
from purenet.types import Params as Params
from purenet.types import Trainable as Trainable
from purenet.types import TrainState as TrainState

__version__ = "0.1.0"
