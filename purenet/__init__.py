"""Neural networks as pure functions, with hand-written gradients; hundreds trained in one program.

This file decides what is public.
"""

import importlib
from typing import TYPE_CHECKING, Any

from purenet import data as data
from purenet import initializers as initializers
from purenet import metrics as metrics
from purenet import ops as ops
from purenet import schedules as schedules
from purenet.compose import remat as remat
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
from purenet.layers.conv import col2im as col2im
from purenet.layers.conv import conv as conv
from purenet.layers.conv import im2col as im2col
from purenet.layers.dense import dense as dense
from purenet.layers.dropout import dropout as dropout
from purenet.layers.embedding import embedding as embedding
from purenet.layers.local_response_norm import local_response_norm as local_response_norm
from purenet.layers.norm import batch_norm as batch_norm
from purenet.layers.norm import layer_norm as layer_norm
from purenet.layers.pool import avg_pool as avg_pool
from purenet.layers.pool import global_avg_pool as global_avg_pool
from purenet.layers.pool import max_pool as max_pool
from purenet.layers.reshape import flatten as flatten
from purenet.losses import accuracy as accuracy
from purenet.losses import l1 as l1
from purenet.losses import l2 as l2
from purenet.losses import mean_squared_error as mean_squared_error
from purenet.losses import softmax_cross_entropy as softmax_cross_entropy
from purenet.nets import alexnet as alexnet
from purenet.nets import deep_convnet as deep_convnet
from purenet.nets import mlp as mlp
from purenet.nets import simple_convnet as simple_convnet
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

if TYPE_CHECKING:
    from purenet import checkpoint as checkpoint
    from purenet import gradcheck as gradcheck
    from purenet import plots as plots
    from purenet import sweep as sweep
    from purenet.checkpoint import load as load
    from purenet.checkpoint import load_network as load_network
    from purenet.checkpoint import save as save
    from purenet.checkpoint import save_network as save_network

__version__ = "0.1.0"

# What is imported when it is first used: half of the time that importing all of it would take.
_LATER = ("checkpoint", "gradcheck", "plots", "sweep")
_FROM_CHECKPOINT = ("load", "load_network", "save", "save_network")


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"purenet.{name}")
    if name in _FROM_CHECKPOINT:
        return getattr(importlib.import_module("purenet.checkpoint"), name)
    raise AttributeError(f"module 'purenet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_FROM_CHECKPOINT})
