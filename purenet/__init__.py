"""Neural networks as pure functions, with hand-written gradients; hundreds trained in one program.

Networks
    dense                       a fully connected layer
    conv                        a convolution
    conv1d                      a convolution of sequences
    conv_transpose              a transposed convolution, which enlarges images
    embedding                   a vector for each index
    max_pool                    the maximum of each window
    avg_pool                    the mean of each window
    global_avg_pool             the mean of each channel
    flatten                     images to rows
    dropout                     zeros at random
    batch_norm                  normalises over the batch
    layer_norm                  normalises each example
    group_norm                  normalises groups of channels of each example
    rms_norm                    divides by the root mean square
    periodic                    sines and cosines of numbers, for tabular data
    gru                         a gated recurrent unit, for sequences
    lstm                        a long short-term memory, for sequences
    attention                   multi-head self-attention, for sequences
    positions                   a learnt vector for each place of a sequence
    local_response_norm         normalises over neighbouring channels
    serial                      layers one after the other
    residual                    adds a layer to its input
    concatenate                 the outputs of several layers side by side
    per_position                a layer for rows at every position
    remat                       saves memory by recomputing activations
    mup                         a network whose best rate does not depend on its width
    mlp                         a multi-layer perceptron
    transformer                 a transformer for tokens
    simple_convnet              one convolution and two dense layers
    deep_convnet                six convolutions and two dense layers
    alexnet                     AlexNet
    PaddedSize                  a size that may be traced, in arrays of a fixed size
    summary                     a network as a table
    im2col                      the windows of images as rows
    col2im                      sums rows of windows into images

Activations
    relu                        max(x, 0)
    leaky_relu                  relu with a slope below 0
    elu                         exponential below 0
    selu                        scaled elu, for self-normalising networks
    gelu                        x times the normal distribution function
    silu                        x times sigmoid(x)
    softplus                    log(1 + exp(x))
    sigmoid                     1 / (1 + exp(-x))
    tanh                        hyperbolic tangent
    softmax                     probabilities from scores

Losses, metrics and penalties
    softmax_cross_entropy       for classes, from scores
    sigmoid_binary_cross_entropy  for two classes or several labels, from scores
    mean_squared_error          for numbers
    huber                       for numbers with outliers
    accuracy                    the fraction of correct predictions
    l1                          a penalty on absolute values
    l2                          a penalty on squares
    metrics                     AUROC, F1, R² and more (module)

Optimizers
    sgd                         gradient descent
    momentum                    gradient descent with momentum
    nesterov                    with Nesterov momentum
    adagrad                     a rate for each weight
    rmsprop                     AdaGrad with a moving average
    adadelta                    RMSProp without a rate
    adam                        momentum and RMSProp
    adamw                       Adam with decoupled weight decay
    nadam                       Adam with Nesterov momentum
    radam                       Adam that needs no warm-up
    lion                        the sign of the momentum
    muon                        orthogonalised momentum, for matrices
    schedule_free_sgd           averages its weights; its rate need not fall
    schedule_free_adamw         the same with the steps of AdamW

Gradient transformations
    chain                       several, one after the other
    clip                        clips each entry
    clip_by_global_norm         clips the norm of all gradients together
    add_weight_decay            adds a multiple of the weights
    scale_by_schedule           multiplies by a factor that depends on the step
    reduce_on_plateau           lowers the rate when a validation metric no longer improves
    mup_rates                   the rate of each weight in a network made by mup
    exponential_moving_average  averages the weights
    averaged_weights            reads that average
    apply_updates               weights plus updates

Training
    supervised                  a network, a loss and an optimizer as a Trainable
    fused_mlp                   a multi-layer perceptron whose every step is one kernel
    fit                         trains one network
    predict                     the outputs of a network for many examples
    sweep                       trains hundreds at once (module)
    use_cpu_cores               one device per core, before anything is computed

Data and files
    data                        digits, MNIST, CSV, splits (module)
    save                        writes any tree of arrays to a file
    load                        reads it
    save_network                writes a network with its weights to a file
    load_network                reads it
    save_ensemble               writes the best networks of a sweep, as one, to a file
    load_ensemble               reads it
    checkpoint                  the same, and metadata (module)

Gradients
    hand_vjp                    an operation with a hand-written gradient
    jvp                         forward mode for such operations
    ops                         the operations on arrays (module)
    gradcheck                   checks gradients (module)

More modules
    initializers                initial weights
    schedules                   rates that depend on the step
    plots                       pictures

Types
    Layer                       a pair of pure functions, init and apply
    Params                      weights and running statistics
    Optimizer                   a pair of pure functions, init and update
    TrainState                  the state of a run between steps
    Trainable                   init, epoch and evaluate: any training code
    Fit                         what `fit` returns
    Ensemble                    several networks as one, such as `result.ensemble(10)`

`help(pn.dense)`, for instance, shows one of them in full, with an example.
"""

import importlib
from typing import TYPE_CHECKING, Any

from purenet import data as data
from purenet._version import __version__ as __version__
from purenet.core.ensemble import Ensemble as Ensemble
from purenet.core.padded import PaddedSize as PaddedSize
from purenet.core.types import Layer as Layer
from purenet.core.types import Optimizer as Optimizer
from purenet.core.types import Params as Params
from purenet.core.types import Trainable as Trainable
from purenet.core.types import TrainState as TrainState
from purenet.core.vjp import hand_vjp as hand_vjp
from purenet.core.vjp import jvp as jvp
from purenet.distributed.devices import use_cpu_cores as use_cpu_cores
from purenet.nn import initializers as initializers
from purenet.nn import metrics as metrics
from purenet.nn import ops as ops
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
from purenet.nn.attention import attention as attention
from purenet.nn.combinators import concatenate as concatenate
from purenet.nn.combinators import per_position as per_position
from purenet.nn.combinators import remat as remat
from purenet.nn.combinators import residual as residual
from purenet.nn.combinators import serial as serial
from purenet.nn.conv import conv as conv
from purenet.nn.conv1d import conv1d as conv1d
from purenet.nn.conv_transpose import conv_transpose as conv_transpose
from purenet.nn.dense import dense as dense
from purenet.nn.dropout import dropout as dropout
from purenet.nn.embedding import embedding as embedding
from purenet.nn.flatten import flatten as flatten
from purenet.nn.group_norm import group_norm as group_norm
from purenet.nn.layer_norm import layer_norm as layer_norm
from purenet.nn.local_response_norm import local_response_norm as local_response_norm
from purenet.nn.losses import accuracy as accuracy
from purenet.nn.losses import huber as huber
from purenet.nn.losses import l1 as l1
from purenet.nn.losses import l2 as l2
from purenet.nn.losses import mean_squared_error as mean_squared_error
from purenet.nn.losses import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from purenet.nn.losses import softmax_cross_entropy as softmax_cross_entropy
from purenet.nn.models import alexnet as alexnet
from purenet.nn.models import deep_convnet as deep_convnet
from purenet.nn.models import mlp as mlp
from purenet.nn.models import simple_convnet as simple_convnet
from purenet.nn.models import transformer as transformer
from purenet.nn.mup import mup as mup
from purenet.nn.norm import batch_norm as batch_norm
from purenet.nn.periodic import periodic as periodic
from purenet.nn.pool import avg_pool as avg_pool
from purenet.nn.pool import global_avg_pool as global_avg_pool
from purenet.nn.pool import max_pool as max_pool
from purenet.nn.positions import positions as positions
from purenet.nn.recurrent import gru as gru
from purenet.nn.recurrent import lstm as lstm
from purenet.nn.rms_norm import rms_norm as rms_norm
from purenet.nn.summary import summary as summary
from purenet.nn.windows import col2im as col2im
from purenet.nn.windows import im2col as im2col
from purenet.optim import schedules as schedules
from purenet.optim.muon import muon as muon
from purenet.optim.mup import mup_rates as mup_rates
from purenet.optim.optimizers import adadelta as adadelta
from purenet.optim.optimizers import adagrad as adagrad
from purenet.optim.optimizers import adam as adam
from purenet.optim.optimizers import adamw as adamw
from purenet.optim.optimizers import lion as lion
from purenet.optim.optimizers import momentum as momentum
from purenet.optim.optimizers import nadam as nadam
from purenet.optim.optimizers import nesterov as nesterov
from purenet.optim.optimizers import rmsprop as rmsprop
from purenet.optim.optimizers import sgd as sgd
from purenet.optim.plateau import reduce_on_plateau as reduce_on_plateau
from purenet.optim.radam import radam as radam
from purenet.optim.schedule_free import schedule_free_adamw as schedule_free_adamw
from purenet.optim.schedule_free import schedule_free_sgd as schedule_free_sgd
from purenet.optim.transforms import add_weight_decay as add_weight_decay
from purenet.optim.transforms import apply_updates as apply_updates
from purenet.optim.transforms import averaged_weights as averaged_weights
from purenet.optim.transforms import chain as chain
from purenet.optim.transforms import clip as clip
from purenet.optim.transforms import clip_by_global_norm as clip_by_global_norm
from purenet.optim.transforms import exponential_moving_average as exponential_moving_average
from purenet.optim.transforms import scale_by_schedule as scale_by_schedule
from purenet.training.fit import Fit as Fit
from purenet.training.fit import fit as fit
from purenet.training.fused import fused_mlp as fused_mlp
from purenet.training.predict import predict as predict
from purenet.training.supervised import supervised as supervised

if TYPE_CHECKING:
    from purenet import checkpoint as checkpoint
    from purenet import gradcheck as gradcheck
    from purenet import plots as plots
    from purenet import sweep as sweep
    from purenet.checkpoint import load as load
    from purenet.checkpoint import load_network as load_network
    from purenet.checkpoint import save as save
    from purenet.checkpoint import save_network as save_network
    from purenet.training.ensemble_file import load_ensemble as load_ensemble
    from purenet.training.ensemble_file import save_ensemble as save_ensemble

__all__ = [
    "Ensemble",
    "Fit",
    "Layer",
    "Optimizer",
    "PaddedSize",
    "Params",
    "TrainState",
    "Trainable",
    "accuracy",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "add_weight_decay",
    "alexnet",
    "apply_updates",
    "attention",
    "averaged_weights",
    "avg_pool",
    "batch_norm",
    "chain",
    "checkpoint",
    "clip",
    "clip_by_global_norm",
    "col2im",
    "concatenate",
    "conv",
    "conv1d",
    "conv_transpose",
    "data",
    "deep_convnet",
    "dense",
    "dropout",
    "elu",
    "embedding",
    "exponential_moving_average",
    "fit",
    "flatten",
    "fused_mlp",
    "gelu",
    "global_avg_pool",
    "gradcheck",
    "group_norm",
    "gru",
    "hand_vjp",
    "huber",
    "im2col",
    "initializers",
    "jvp",
    "l1",
    "l2",
    "layer_norm",
    "leaky_relu",
    "lion",
    "load",
    "load_ensemble",
    "load_network",
    "local_response_norm",
    "lstm",
    "max_pool",
    "mean_squared_error",
    "metrics",
    "mlp",
    "momentum",
    "muon",
    "mup",
    "mup_rates",
    "nadam",
    "nesterov",
    "ops",
    "per_position",
    "periodic",
    "plots",
    "positions",
    "predict",
    "radam",
    "reduce_on_plateau",
    "relu",
    "remat",
    "residual",
    "rms_norm",
    "rmsprop",
    "save",
    "save_ensemble",
    "save_network",
    "scale_by_schedule",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "schedules",
    "selu",
    "serial",
    "sgd",
    "sigmoid",
    "sigmoid_binary_cross_entropy",
    "silu",
    "simple_convnet",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "summary",
    "supervised",
    "sweep",
    "tanh",
    "transformer",
    "use_cpu_cores",
]

# Imported on first use: this halves the time of `import purenet`.
_LATER = ("checkpoint", "gradcheck", "plots", "sweep")
_FROM = {
    **dict.fromkeys(("load", "load_network", "save", "save_network"), "checkpoint"),
    **dict.fromkeys(("load_ensemble", "save_ensemble"), "training.ensemble_file"),
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"purenet.{name}")
    if name in _FROM:
        return getattr(importlib.import_module(f"purenet.{_FROM[name]}"), name)
    raise AttributeError(f"module 'purenet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
