"""Wrong arguments to networks, operations, losses and optimizers: what is refused, in which words,
and what looks unusual and has to work. A new public name without a row fails here."""

import functools
import inspect
import re
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases.layers import LAYERS, examples

import purenet as pn
from purenet import initializers, ops, schedules
from purenet.core.types import Params
from purenet.nn import base, register

KEY = jax.random.key(0)
ROWS, IMAGES = np.ones((5, 3)), np.ones((2, 4, 4, 3))
W, B, ONES = np.ones((3, 2)), np.zeros(2), np.ones(3)
WEIGHTS = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
NAN = float("nan")


def applied(net, x, sizes=3, train=False, key=None, params=None):
    return net.apply(net.init(KEY, sizes) if params is None else params, x, train, key)


def traced(f):
    """`f` of a number that is known only when the program runs."""
    return jax.eval_shape(f, jax.ShapeDtypeStruct((), jnp.int32))


def dense_params(inputs=3, units=2):
    return pn.dense(units).init(KEY, inputs)


def step(optimizer, grads, weights, state=None):
    return optimizer.update(grads, optimizer.init(weights) if state is None else state, weights)


class Mistake(NamedTuple):
    name: str  # the public name, and what is wrong
    call: Any
    error: type
    message: str


# every operation on arrays: what is no array is refused by the seam, by its name
OPERANDS = {
    **dict.fromkeys(
        ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh",
         "softmax", "flatten", "half_sum_of_squares", "sum_of_magnitudes"), (ROWS,),
    ),
    "affine": (ROWS, W, B),
    "convolve": (IMAGES, np.ones((3, 3, 3, 2)), B),
    "im2col": (IMAGES, 2),
    "col2im": (np.ones((1, 2, 2, 4)), (1, 3, 3, 1), 2),
    "drop": (ROWS, 0.5, KEY),
    "look_up": (W, np.array([0, 2])),
    "local_response_normalise": (ROWS, 2.0, 1e-4, 0.75, 5),
    "batch_normalise": (ROWS, ONES, ONES, 1e-6),
    "normalise": (ROWS, ONES, ONES, ONES, ONES, 1e-6),
    "layer_normalise": (ROWS, ONES, ONES, 1e-6),
    "global_avg_pool": (IMAGES,),
    "pool_average": (IMAGES, 2),
    "pool_max": (IMAGES, 2),
    "mean_squared_error": (ROWS, ROWS),
    "softmax_cross_entropy": (ROWS, np.array([0, 1, 2, 0, 1])),
}  # fmt: skip
OPERANDS |= {  # those that a file declares itself
    name: (*(np.ones(a) if isinstance(a, tuple) else a for a in args), *static)
    for name, (args, static) in register.examples().items()
}
NO_ARRAYS = {
    "None": (None, "is None, but an array"),
    "a string": ("x", "is 'x', but an array"),
    "a list": ([1.0, 2.0], r"is \[1\.0, 2\.0\], but an array is expected; .*jnp\.asarray"),
    "a class": (dict, "is the class dict, but an array"),
    "a function": (print, "is the function print, but an array"),
    "strings": (np.array(["a"]), r"is an array of <U1 \(1,\), but an array of numbers"),
    "objects": (np.array([None]), r"is an array of object \(1,\), but an array of numbers"),
}


def of_ops():
    for name, args in OPERANDS.items():
        op = getattr(ops, name)
        argument = next(iter(inspect.signature(op).parameters))
        for what, (value, message) in NO_ARRAYS.items():
            call = lambda op=op, value=value, args=args: op(value, *args[1:])
            yield Mistake(f"{name}: {what}", call, TypeError, f"{name}: {argument} {message}")


# every number that sets something: what is no number, too large, too small, or several
class Setting(NamedTuple):
    call: Any  # of the number
    label: str
    wrong: tuple
    one: bool = True  # an array has to be of one number


NEGATIVE, ABOVE_0, SHARE = (-1, NAN, np.inf), (0, -1.0, NAN), (-0.1, 1.0, 1.5, NAN)
SETTINGS = {
    "leaky_relu": [Setting(lambda v: pn.leaky_relu(ROWS, slope=v), "slope", (NAN,), False)],
    "elu": [Setting(lambda v: pn.elu(ROWS, alpha=v), "alpha", (np.inf,), False)],
    "drop": [Setting(lambda v: ops.drop(ROWS, v, KEY), "rate", SHARE, False)],
    "dropout": [Setting(lambda v: pn.dropout(v), "rate", SHARE, False)],
    "batch_norm": [
        Setting(lambda v: pn.batch_norm(v), "momentum", SHARE),
        Setting(lambda v: pn.batch_norm(eps=v), "eps", NEGATIVE, False),
    ],
    "layer_norm": [Setting(lambda v: pn.layer_norm(v), "eps", NEGATIVE, False)],
    "batch_normalise": [
        Setting(lambda v: ops.batch_normalise(ROWS, ONES, ONES, v), "eps", (-1,), False)
    ],
    "normalise": [
        Setting(lambda v: ops.normalise(ROWS, ONES, ONES, ONES, ONES, eps=v), "eps", (-1,), False)
    ],
    "layer_normalise": [
        Setting(lambda v: ops.layer_normalise(ROWS, ONES, ONES, v), "eps", (-1,), False)
    ],
    "local_response_norm": [
        Setting(lambda v: pn.local_response_norm(k=v), "k", ABOVE_0),
        Setting(lambda v: pn.local_response_norm(alpha=v), "alpha", (NAN,)),
        Setting(lambda v: pn.local_response_norm(beta=v), "beta", (np.inf,)),
    ],
    "local_response_normalise": [
        Setting(lambda v: ops.local_response_normalise(ROWS, v, 1e-4, 0.75), "k", ABOVE_0)
    ],
    "softmax_cross_entropy": [
        Setting(lambda v: pn.softmax_cross_entropy(*OPERANDS["softmax_cross_entropy"], v),
                "smoothing", SHARE)
    ],
    "sigmoid_binary_cross_entropy": [
        Setting(lambda v: pn.sigmoid_binary_cross_entropy(ROWS, ROWS > 0, v), "smoothing", SHARE)
    ],
    "huber": [Setting(lambda v: pn.huber(ROWS, ROWS, v), "delta", ABOVE_0)],
    "l1": [Setting(pn.l1, "strength", NEGATIVE)],
    "l2": [Setting(pn.l2, "strength", NEGATIVE)],
    **{
        name: [Setting(getattr(pn, name), "rate", NEGATIVE)]
        for name in ("sgd", "lion", "adam", "nadam", "adadelta", "muon", "radam",
                     "schedule_free_sgd", "schedule_free_adamw")
    },
    "momentum": [Setting(pn.momentum, "rate", NEGATIVE),
                 Setting(lambda v: pn.momentum(0.1, v), "momentum", SHARE)],
    "nesterov": [Setting(lambda v: pn.nesterov(0.1, v), "momentum", SHARE)],
    "adagrad": [Setting(lambda v: pn.adagrad(0.1, initial_accumulator=v),
                        "initial_accumulator", NEGATIVE)],
    "rmsprop": [Setting(lambda v: pn.rmsprop(0.1, v), "decay", SHARE)],
    "adamw": [Setting(lambda v: pn.adamw(0.1, weight_decay=v), "weight_decay", NEGATIVE),
              Setting(lambda v: pn.adamw(0.1, b2=v), "b2", SHARE)],
    "clip": [Setting(pn.clip, "limit", ABOVE_0)],
    "clip_by_global_norm": [Setting(pn.clip_by_global_norm, "limit", ABOVE_0)],
    "add_weight_decay": [Setting(pn.add_weight_decay, "strength", NEGATIVE)],
    "reduce_on_plateau": [Setting(pn.reduce_on_plateau, "factor", SHARE),
                          Setting(lambda v: pn.reduce_on_plateau(patience=v), "patience", ABOVE_0),
                          Setting(lambda v: pn.reduce_on_plateau(min_scale=v), "min_scale",
                                  NEGATIVE)],
    "exponential_moving_average": [Setting(pn.exponential_moving_average, "decay", SHARE)],
    "scale_by_schedule": [Setting(pn.scale_by_schedule, "schedule", (NAN,))],
    "constant": [Setting(schedules.constant, "rate", NEGATIVE)],
    "step": [Setting(lambda v: schedules.step(0.1, v, 0.5), "every", ABOVE_0),
             Setting(lambda v: schedules.step(0.1, 10, v), "factor", NEGATIVE)],
    "exponential": [Setting(lambda v: schedules.exponential(0.1, v, 0.5), "steps", ABOVE_0)],
    "cosine": [Setting(lambda v: schedules.cosine(0.1, v), "steps", ABOVE_0)],
    "warmup": [Setting(lambda v: schedules.warmup(v, 10), "schedule", NEGATIVE)],
    "piecewise": [Setting(lambda v: schedules.piecewise([1, v], [10]), r"rates\[1\]", NEGATIVE),
                  Setting(lambda v: schedules.piecewise([1, 2], [v]), r"boundaries\[0\]", (NAN,))],
    "normal": [Setting(initializers.normal, "std", NEGATIVE)],
    "uniform": [Setting(lambda v: initializers.uniform(0.0, v), "high", (NAN, np.inf))],
}  # fmt: skip


def of_settings():
    for name, settings in SETTINGS.items():
        for call, label, wrong, one in settings:
            for value in wrong:
                row = f"{name}: {label} {value}"
                message = rf"{label} is {re.escape(str(value))}, but .*number"
                yield Mistake(row, functools.partial(call, value), ValueError, message)
            for value in (None, "0.1", [0.1], np.array(["a"]), int):
                row = f"{name}: {label} {value}"
                message = f"{label} is .*, but .*(number|array)"
                yield Mistake(row, functools.partial(call, value), TypeError, message)
            if one:
                row = f"{name}: {label} of two numbers"
                message = rf"{label} is an array of float64 \(2,\), but one number.*vmap"
                call = functools.partial(call, np.array([0.1, 0.2]))
                yield Mistake(row, call, ValueError, message)


# every optimizer: what is trained, its gradients, its state
OPTIMIZERS = {
    **{
        name: getattr(pn, name)(0.1)
        for name in ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam",
                     "adamw", "nadam", "lion", "muon", "radam", "schedule_free_sgd",
                     "schedule_free_adamw")
    },
    "clip": pn.clip(1.0),
    "clip_by_global_norm": pn.clip_by_global_norm(1.0),
    "add_weight_decay": pn.add_weight_decay(0.1),
    "exponential_moving_average": pn.exponential_moving_average(0.9),
    "scale_by_schedule": pn.scale_by_schedule(0.5),
    "reduce_on_plateau": pn.reduce_on_plateau(),
    "chain": pn.chain(pn.clip(1.0), pn.sgd(0.1)),
}  # fmt: skip


SHORTER, WIDER = {"w": jnp.ones((3, 2))}, {"w": jnp.ones((3, 5)), "b": jnp.ones(2)}


def of_optimizers():
    for name, optimizer in OPTIMIZERS.items():
        init = optimizer.init
        yield from (
            Mistake(f"{name}: integer weights", lambda init=init: init({"w": np.ones(2, int)}),
                    TypeError, rf"{name}: the weights\['w'\] have dtype int64, but floats"),
            Mistake(f"{name}: a string as weights", lambda init=init: init({"w": "x"}),
                    TypeError, rf"{name}: the weights\['w'\] is 'x', but an array"),
            Mistake(f"{name}: a class as weights", lambda init=init: init(dict),
                    TypeError, f"{name}: the weights is the class dict, but an array"),
            Mistake(f"{name}: Params", lambda init=init: init(Params(WEIGHTS)),
                    TypeError, rf"{name}: got a network's Params.*params\.weights"),
            Mistake(f"{name}: gradients of another structure",
                    lambda optimizer=optimizer: step(optimizer, SHORTER, WEIGHTS),
                    ValueError, f"{name}: the gradients have the structure .*the weights have"),
            Mistake(f"{name}: gradients of another shape",
                    lambda optimizer=optimizer: step(optimizer, WIDER, WEIGHTS),
                    ValueError, rf"{name}: the gradients\['w'\] have shape \(3, 5\).*\(3, 2\)"),
            Mistake(f"{name}: integer gradients",
                    lambda optimizer=optimizer: optimizer.update(
                        {"w": np.ones((3, 2), int), "b": B}, optimizer.init(WEIGHTS)),
                    TypeError, rf"{name}: the gradients\['w'\] have dtype int64, but floats"),
        )  # fmt: skip
        if name not in ("clip", "clip_by_global_norm", "add_weight_decay", "chain"):
            yield Mistake(
                f"{name}: the state of another",
                lambda optimizer=optimizer: step(optimizer, WEIGHTS, WEIGHTS, (0, 1)),
                TypeError, f"{name}: the state is a tuple, but a .*State is expected.*init",
            )  # fmt: skip
            of_weights = name not in ("exponential_moving_average", "reduce_on_plateau")
            if of_weights and len(optimizer.init(WEIGHTS)) > 1:
                yield Mistake(
                    f"{name}: the state of other weights",
                    lambda optimizer=optimizer: optimizer.update(
                        WEIGHTS, optimizer.init({"w": W})),
                    ValueError, f"{name}: the gradients have the structure .*of the state have",
                )  # fmt: skip


# every ready-made layer: params that are not its own
MADE = {
    "dense": (pn.dense(2), ROWS, 3),
    "conv": (pn.conv(2, 3), IMAGES, (4, 4, 3)),
    "embedding": (pn.embedding(4, 2), np.zeros((5, 3), int), 3),
    "batch_norm": (pn.batch_norm(), ROWS, 3),
    "layer_norm": (pn.layer_norm(), ROWS, 3),
    "local_response_norm": (pn.local_response_norm(), ROWS, 3),
    "dropout": (pn.dropout(0.5), ROWS, 3),
    "max_pool": (pn.max_pool(2), IMAGES, (4, 4, 3)),
    "avg_pool": (pn.avg_pool(2), IMAGES, (4, 4, 3)),
    "serial": (pn.serial(pn.dense(2), pn.relu), ROWS, 3),
    "residual": (pn.residual(pn.dense(3)), ROWS, 3),
    "mlp": (pn.mlp(), ROWS, (3, 4, 2)),
}
MADE |= {
    name: (case.layer, examples(name, 2), case.sizes)
    for name, case in LAYERS.items()
    if name not in MADE and "," not in name
}


def of_layers():
    for name, (net, x, sizes) in MADE.items():
        use = functools.partial(applied, net, x, sizes)
        yield from (
            Mistake(f"{name}: weights for Params", functools.partial(use, params=WEIGHTS),
                    TypeError, f"{name}: params is a dict, but what `init` returns"),
            Mistake(f"{name}: params of another network",
                    functools.partial(use, params=Params({"v": jnp.ones(3)})),
                    ValueError,  # conv1d is a conv
                    f"{name.removesuffix('1d')}: the weights are .*v.*, but .*another network"),
        )  # fmt: skip
        if name not in ("local_response_norm", "dropout", "max_pool", "avg_pool"):
            yield Mistake(
                f"{name}: sizes of words", lambda net=net: net.init(KEY, "three"),
                ValueError, "'three'.*(positive integers|the widths)",
            )  # fmt: skip


NET = pn.serial(pn.dense(4), pn.relu, pn.dense(2))
LONGER = pn.serial(NET, pn.relu, pn.dense(2), pn.dense(2))
half = lambda x: x / 2
PAIR = lambda x, w: x * w
RULE = lambda bwd: pn.hand_vjp(PAIR, lambda x, w: (x * w, (x, w)), bwd)
pull = lambda op: jax.eval_shape(jax.grad(lambda x: op(x, ONES).sum()), ONES)
DRAWERS = ("he_normal", "he_uniform", "lecun_normal", "glorot_normal", "glorot_uniform")


def draw(name):
    return getattr(initializers, name)


def of_initializers():
    for name in (*DRAWERS, "zeros", "normal", "uniform"):
        f = {"normal": initializers.normal(1.0), "uniform": initializers.uniform()}.get(name)
        f = f or draw(name)
        for shape in ("ab", None, (3, -1), (0, 2), (3, 2.5), (3, "a")):
            yield Mistake(f"{name}: shape {shape}", lambda f=f, shape=shape: f(KEY, shape),
                          ValueError, f"{name}: shape is .*positive integers")  # fmt: skip
        if name == "zeros":
            continue
        for what, key in (("None", None), ("3", 3), ("an array", np.ones(2))):
            yield Mistake(f"{name}: a key that is {what}", lambda f=f, key=key: f(key, (3, 2)),
                          TypeError, r": the key is .*such as jax\.random\.key\(0\)")  # fmt: skip
        yield from (
            Mistake(f"{name}: two keys", lambda f=f: f(jax.random.split(KEY), (3, 2)),
                    ValueError, r"the key is an array of key<fry> \(2,\), but one random key"),
            Mistake(f"{name}: integers", lambda f=f: f(KEY, (3, 2), int),
                    TypeError, "dtype is the class int, but one of floats"),
        )  # fmt: skip
    for name in DRAWERS:
        f = draw(name)
        yield from (
            Mistake(f"{name}: a vector", lambda f=f: f(KEY, (3,)),
                    ValueError, rf"{name}: .*the shape \(3,\).*matrix"),
            Mistake(f"{name}: one fan", lambda f=f: f(KEY, (3, 2), fans=(3,)),
                    ValueError, rf"{name}: fans is \(3,\), but \(fan_in, fan_out\)"),
            Mistake(f"{name}: no fan", lambda f=f: f(KEY, (3, 2), fans=(0, 2)),
                    ValueError, f"{name}: fan_in is 0, but a finite number above 0"),
        )  # fmt: skip


def of_schedules():
    built = {
        "constant": schedules.constant(0.1), "step": schedules.step(0.1, 10, 0.5),
        "exponential": schedules.exponential(0.1, 10, 0.5), "cosine": schedules.cosine(0.1, 10),
        "warmup": schedules.warmup(0.1, 10), "piecewise": schedules.piecewise([1, 2], [10]),
    }  # fmt: skip
    for name, schedule in built.items():
        for value in (None, "now", [1, 2]):
            yield Mistake(f"{name}: at the step {value}", functools.partial(schedule, value),
                          TypeError, f"{name}: step is .*, but an array")  # fmt: skip


OTHERS = [
    Mistake(*row)
    for row in (
        # layers
        ("dense: units None", lambda: pn.dense(None), TypeError, "dense: units is None.*integer"),
        ("dense: units 2.5", lambda: pn.dense(2.5), TypeError, "dense: units is 2.5.*integer"),
        ("dense: units True", lambda: pn.dense(True), TypeError, "dense: units is True.*integer"),
        ("dense: units 0", lambda: pn.dense(0), ValueError, "dense: units is 0.*at least 1"),
        ("dense: units of an image", lambda: pn.dense((3, 4)),
         TypeError, r"units is \(3, 4\).*integer"),
        ("dense: traced units", lambda: traced(pn.dense), TypeError,
         r"dense: units is a traced array of int32 \(\).*known"),
        ("dense: no initialiser", lambda: pn.dense(2, None),
         TypeError, "weight_init is None.*he_normal"),
        ("dense: normal, not called", lambda: pn.dense(2, initializers.normal), TypeError,
         r"weight_init is the function normal.*normal\(0\.01\)"),
        ("dense: uniform, not called", lambda: pn.dense(2, initializers.uniform).init(KEY, 3),
         TypeError, r"uniform: low is an array of key<fry> \(\), but a finite number"),
        ("drawn: a distribution, not called", lambda: pn.dense(2, lambda k, s: half).init(KEY, 3),
         TypeError, r"the result of weight_init, .*, is the function .*uniform\(\)"),
        ("dense: integer weights", lambda: pn.dense(2, lambda k, s: jnp.ones(s, int)).init(KEY, 3),
         TypeError, r"an array of int64 \(3, 2\), but an array of floats"),
        ("drawn: a list", lambda: base.init_weights("dense", lambda k, s: [1], KEY, (3, 2)),
         TypeError, r"the result of .* is \[1\], but an array"),
        ("dense: weights of another shape",
         lambda: pn.dense(2, lambda k, s: jnp.ones(3)).init(KEY, 3),
         ValueError, r"has shape \(3,\), but \(3, 2\)"),
        ("dense: images", lambda: pn.dense(2).init(KEY, (4, 4)), ValueError, r"\(4, 4\).*flatten"),
        ("dense: no key", lambda: pn.dense(2).init(None, 3), TypeError, "the key is None"),
        ("dense: one example", lambda: applied(pn.dense(2), ONES),
         ValueError, r"\(3,\).*x\[None\]"),
        ("affine: a scalar", lambda: ops.affine(1.0, W, B),
         ValueError, r"x has shape \(\).*\(3, 2\)"),
        ("affine: rows too long", lambda: ops.affine(np.ones((5, 4)), W, B), ValueError,
         r"\(5, 4\).*\(3, 2\) takes \(batch, 3\)"),
        ("affine: w no matrix", lambda: ops.affine(ROWS, ONES, B),
         ValueError, r"w has shape \(3,\)"),
        ("affine: b too long", lambda: ops.affine(ROWS, W, ONES),
         ValueError, r"\(3, 2\) and b \(3,\)"),
        ("conv: no kernel", lambda: pn.conv(3, None), ValueError, "conv: kernel is None"),
        ("conv: a kernel of words", lambda: pn.conv(3, "33"), ValueError, "kernel is '33'"),
        ("conv: no filters", lambda: pn.conv(0, 3), ValueError, "conv: filters is 0"),
        ("conv: filters 2.5", lambda: pn.conv(2.5, 3), TypeError, "conv: filters is 2.5"),
        ("conv: stride 0", lambda: pn.conv(3, 3, 0), ValueError, "conv: stride is 0"),
        ("conv: three strides", lambda: pn.conv(3, 3, (1, 1, 1)), ValueError, r"is \(1, 1, 1\)"),
        ("conv: negative padding", lambda: pn.conv(3, 3, padding=-1),
         ValueError, "padding is -1"),
        ("conv: padding None", lambda: pn.conv(3, 3, padding=None),
         ValueError, "padding is None"),
        ("conv: padding of pairs", lambda: pn.conv(3, 3, padding=((1, 1), (1, 1))), ValueError,
         r"padding is \(\(1, 1\), \(1, 1\)\)"),
        ("conv: padding of an array", lambda: pn.conv(3, 3, padding=np.ones(2)), ValueError,
         r"padding is an array of float64 \(2,\)"),
        ("conv: padding by name", lambda: pn.conv(3, 3, padding="full"), ValueError, "is 'full'"),
        ("conv: bias by name", lambda: pn.conv(3, 3, bias="no"), TypeError, "bias is 'no'.*True"),
        ("conv: method", lambda: pn.conv(3, 3, method=["direct"]), ValueError,
         r"conv: method is \['direct'\], but one of 'columns'"),
        ("conv: initialiser", lambda: pn.conv(3, 3, weight_init=3), TypeError, "weight_init is 3"),
        ("conv: too large", lambda: pn.conv(3, 5).init(KEY, (4, 9, 1)),
         ValueError, "5.*4.*below 1"),
        ("conv: flat images", lambda: pn.conv(3, 5).init(KEY, 784),
         ValueError, r"\(1, 784\).*reshape"),
        ("convolve: rows", lambda: ops.convolve(ROWS, *OPERANDS["convolve"][1:]), ValueError,
         r"conv: the shape of the images is \(5, 3\)"),
        ("convolve: a matrix", lambda: ops.convolve(IMAGES, W, B),
         ValueError, r"w has shape \(3, 2\), but \(height, .*4, 3\)"),
        ("convolve: other channels", lambda: ops.convolve(IMAGES, np.ones((3, 3, 1, 2)), B),
         ValueError, r"w has shape \(3, 3, 1, 2\), .* 3 channels"),
        ("convolve: b", lambda: ops.convolve(IMAGES, np.ones((3, 3, 3, 2)), ONES), ValueError,
         r"b has shape \(3,\).*\(2,\)"),
        ("im2col: rows", lambda: ops.im2col(ROWS, 2), ValueError, r"im2col: .*\(5, 3\)"),
        ("im2col: too large", lambda: ops.im2col(IMAGES, 5),
         ValueError, "im2col: .*5 does not fit"),
        ("im2col: no pixel", lambda: ops.im2col(IMAGES[:, :0], 2), ValueError, "height 0"),
        ("col2im: no shape", lambda: ops.col2im(np.ones((1, 2, 2, 4)), None, 2), ValueError,
         "col2im: the shape of the images is None"),
        ("col2im: a shape of floats", lambda: ops.col2im(np.ones((1, 2, 2, 4)), (1, 3.0, 3, 1), 2),
         ValueError, r"col2im: the shape of the images is \(1, 3\.0, 3, 1\)"),
        ("col2im: other columns", lambda: ops.col2im(np.ones((1, 2, 2, 5)), (1, 3, 3, 1), 2),
         ValueError, r"\(1, 2, 2, 5\).*\(1, 2, 2, 4\)"),
        ("max_pool: size 0", lambda: pn.max_pool(0), ValueError, "max_pool: size is 0"),
        ("max_pool: padding", lambda: pn.max_pool(2, padding="no"), ValueError, "padding is 'no'"),
        ("max_pool: in the padding", lambda: pn.max_pool(2, padding=2).init(KEY, (4, 4, 1)),
         ValueError, r"padding 2 .*\(2, 2\).*alone"),
        ("max_pool: too large", lambda: pn.max_pool(5).init(KEY, (4, 4, 1)),
         ValueError, "5 does not"),
        ("avg_pool: stride", lambda: pn.avg_pool(2, 1.5), ValueError, "avg_pool: stride is 1.5"),
        ("avg_pool: rows", lambda: pn.avg_pool(2).init(KEY, 9),
         ValueError, r"avg_pool: .*\(1, 9\)"),
        ("pool_max: a scalar", lambda: ops.pool_max(1.0, 2), ValueError, r"images is \(\)"),
        ("pool_average: rows", lambda: ops.pool_average(ROWS, 2),
         ValueError, r"avg_pool: .*\(5, 3\)"),
        ("global_avg_pool: rows", lambda: pn.global_avg_pool(ROWS),
         ValueError, r"images is \(5, 3\)"),
        ("global_avg_pool: no pixel", lambda: pn.global_avg_pool(IMAGES[:, :0]), ValueError,
         r"\(2, 0, 4, 3\), but images"),
        ("flatten: a scalar", lambda: pn.flatten(1.0), ValueError, r"flatten: x has shape \(\)"),
        ("softmax: a scalar", lambda: pn.softmax(1.0), ValueError, r"softmax: x has shape \(\)"),
        ("softmax: no class", lambda: pn.softmax(ROWS[:, :0]), ValueError, r"\(5, 0\).*one class"),
        ("batch_norm: no axis", lambda: pn.batch_norm().init(KEY, ()), ValueError, r"shape \(\)"),
        ("layer_norm: no axis", lambda: pn.layer_norm().init(KEY, ()), ValueError, r"shape \(\)"),
        ("batch_norm: no stats", lambda: applied(pn.batch_norm(), ROWS,
                                                 params=Params({"gamma": ONES, "beta": ONES})),
         ValueError, "batch_norm: the stats are none, but mean, variance expected"),
        ("batch_norm: other sizes", lambda: applied(pn.batch_norm(), np.ones((5, 4))), ValueError,
         r"mean has shape \(3,\), but x \(5, 4\) has 4 channels"),
        ("batch_normalise: empty",
         lambda: ops.batch_normalise(ROWS[:0], ONES, ONES, 0.1), ValueError,
         r"\(0, 3\).*at least one number"),
        ("normalise: mean", lambda: ops.normalise(ROWS, B, ONES, ONES, ONES, 0.1), ValueError,
         r"mean has shape \(2,\).*\(5, 3\)"),
        ("layer_normalise: a row", lambda: ops.layer_normalise(ONES, ONES, ONES, 0.1), ValueError,
         r"layer_norm: x has shape \(3,\)"),
        ("layer_normalise: a scalar", lambda: ops.layer_normalise(1.0, ONES, ONES, 0.1), ValueError,
         r"layer_norm: x has shape \(\)"),
        ("local_response_norm: n even", lambda: pn.local_response_norm(4),
         ValueError, "n is 4.*odd"),
        ("local_response_norm: n 2.5", lambda: pn.local_response_norm(2.5), TypeError, "n is 2.5"),
        ("local_response_normalise: n",
         lambda: ops.local_response_normalise(ROWS, 2.0, 1.0, 1.0, -1),
         ValueError, "n is -1, but at least 1"),
        ("local_response_normalise: a scalar",
         lambda: ops.local_response_normalise(1.0, 2.0, 1.0, 1.0),
         ValueError, r"x has shape \(\)"),
        ("drop: no key", lambda: ops.drop(ROWS, 0.5, None), TypeError, r"drop: key is None"),
        ("drop: a number as key", lambda: ops.drop(ROWS, 0.5, 7), TypeError, "the key is 7"),
        ("drop: a rate a column too many", lambda: ops.drop(ROWS, np.zeros(4), KEY), ValueError,
         r"rate has shape \(4,\).*\(5, 3\)"),
        ("drop_padded: a number as key", lambda: ops.drop_padded(ROWS, 0.5, 7, 1, 2), TypeError,
         "the key is 7"),
        ("drop: wrong under jit",
         lambda: jax.jit(lambda x: ops.drop(x, 1.5, KEY))(ROWS), ValueError,
         "dropout: rate is 1.5"),
        ("dropout: no key", lambda: applied(pn.dropout(0.5), ROWS, train=True), ValueError,
         "the key is None.* rate is 0.5"),
        ("dropout: a number as key", lambda: applied(pn.dropout(0.5), ROWS, train=True, key=1),
         TypeError, "dropout: the key is 1"),
        ("embedding: count", lambda: pn.embedding("10", 3), TypeError, "embedding: count is '10'"),
        ("embedding: features", lambda: pn.embedding(10, -3), ValueError, "features is -3"),
        ("embedding: initialiser", lambda: pn.embedding(10, 3, 0.1),
         TypeError, "weight_init is 0.1"),
        ("embedding: floats", lambda: applied(pn.embedding(4, 2), ROWS),
         ValueError, "float64.*int"),
        ("embedding: a list", lambda: applied(pn.embedding(4, 2), [[0, 1]]), TypeError,
         r"look_up: indices is \[\[0, 1\]\].*jnp\.asarray"),
        ("embedding: outside", lambda: applied(pn.embedding(4, 2), np.array([[0, 4]])), ValueError,
         "from 0 to 4.*rows 0 to 3"),
        ("look_up: a row as table", lambda: ops.look_up(ONES, np.array([0])), ValueError,
         r"table has shape \(3,\)"),
        ("look_up: no indices", lambda: ops.look_up(W, None),
         TypeError, "look_up: indices is None"),
        # losses
        ("softmax_cross_entropy: one column too few",
         lambda: pn.softmax_cross_entropy(ROWS, np.ones((5, 2))),
         ValueError, r"\(5, 2\).*\(5, 3\)"),
        ("softmax_cross_entropy: float classes",
         lambda: pn.softmax_cross_entropy(ROWS, np.ones(5)), ValueError, r"float64.*astype\(int\)"),
        ("softmax_cross_entropy: a list of labels",
         lambda: pn.softmax_cross_entropy(ROWS, [0, 1, 2, 0, 1]), TypeError, r"labels is \[0, 1"),
        ("softmax_cross_entropy: smoothing under jit",
         lambda: jax.eval_shape(lambda y: pn.softmax_cross_entropy(y, np.zeros(5, int), 1.5), ROWS),
         ValueError, "smoothing is 1.5"),
        ("softmax_cross_entropy: scalars", lambda: pn.softmax_cross_entropy(1.0, 2), ValueError,
         r"outputs have shape \(\)"),
        ("mean_squared_error: n and n x 1", lambda: pn.mean_squared_error(ROWS[:, 0], ROWS[:, :1]),
         ValueError, r"\(5,\) and t \(5, 1\)"),
        ("mean_squared_error: empty", lambda: pn.mean_squared_error(ROWS[:0], ROWS[:0]), ValueError,
         r"\(0, 3\).*at least one element"),
        ("sigmoid_binary_cross_entropy: n and n x 1",
         lambda: pn.sigmoid_binary_cross_entropy(ROWS[:, :1], np.zeros(5, int)),
         ValueError, r"\(5, 1\) and the labels \(5,\).*t\[:, None\]"),
        ("huber: n and n x 1", lambda: pn.huber(ROWS[:, 0], ROWS[:, :1]),
         ValueError, r"huber: y has shape \(5,\) and t \(5, 1\)"),
        ("accuracy: a list", lambda: pn.accuracy([[1.0]], B),
         TypeError, r"accuracy: y is \[\[1\.0\]\]"),
        ("accuracy: no labels", lambda: pn.accuracy(ROWS, None), TypeError, "accuracy: t is None"),
        ("accuracy: a column", lambda: pn.accuracy(ROWS, np.zeros((5, 1), int)), ValueError,
         r"\(5, 1\).*\(5, 3\)"),
        ("l1: Params", lambda: pn.l1(0.1)(Params(WEIGHTS)),
         TypeError, "l1: got a network's Params"),
        ("l2: a string", lambda: pn.l2(0.1)({"w": "x"}), TypeError, "l2: a weight is 'x'"),
        # networks
        ("serial: a number", lambda: pn.serial(5), TypeError, r"argument is 5, .*dense\(100\)"),
        ("serial: None", lambda: pn.serial(None), TypeError, "argument is None"),
        ("serial: a list", lambda: pn.serial([pn.dense(3), pn.relu]), TypeError,
         r"argument is a list, .*; give the layers one by one, serial\(\*layers\)"),
        ("serial: dense, not called", lambda: pn.serial(pn.dense),
         TypeError, r"is the function dense, .*call it, dense\("),
        ("serial: batch_norm, not called", lambda: pn.serial(pn.batch_norm), TypeError,
         "is the function batch_norm, .*call it"),
        ("serial: a class", lambda: pn.serial(dict), TypeError, "argument is the class dict"),
        ("serial: an optimizer", lambda: pn.serial(pn.sgd(0.1)), TypeError, "is an Optimizer"),
        ("serial: a function of nothing",
         lambda: applied(pn.serial(lambda x: None), ROWS), TypeError,
         "its result is None, but an array"),
        ("serial: a function that makes a layer", lambda: applied(pn.serial(lambda x: NET), ROWS),
         TypeError, "its result is a Layer, but an array"),
        ("serial: no key", lambda: NET.init(None, 3), TypeError, "serial: the key is None"),
        ("serial: a seed", lambda: NET.init(0, 3), TypeError, r"is 0.*jax\.random\.key\(0\)"),
        ("serial: two keys", lambda: NET.init(jax.random.split(KEY), 3), ValueError,
         r"key<fry> \(2,\), but one random key"),
        ("serial: a seed in apply", lambda: applied(NET, ROWS, key=3), TypeError, "the key is 3"),
        ("serial: sizes None", lambda: NET.init(KEY, None), ValueError, "sizes is None"),
        ("serial: negative sizes", lambda: NET.init(KEY, (28, -1)),
         ValueError, r"sizes is \(28, -1\), but a shape of positive integers"),
        ("serial: an array as sizes", lambda: NET.init(KEY, np.array([3])), ValueError,
         r"sizes is an array of int64 \(1,\)"),
        ("serial: a longer network",
         lambda: applied(NET, ROWS, params=LONGER.init(KEY, 3)),
         ValueError, "serial: the weights are 0, 2, 3, but of 0, 1, 2 are expected"),
        ("serial: weights of a function",
         lambda: applied(NET, ROWS, params=Params({"0": dense_params(3, 4).weights,
                                                   "1": dense_params().weights})),
         ValueError, "relu: the weights are b, w, but none expected"),
        ("serial: a layer too few",
         lambda: applied(NET, ROWS, params=Params({"0": dense_params(3, 4).weights})), ValueError,
         "dense: the weights are none, but w, b expected"),
        ("serial: a list as x", lambda: applied(NET, [[1.0, 2.0, 3.0]]), TypeError, "affine: x is"),
        ("remat: a number", lambda: pn.remat(3), TypeError, "argument is 3"),
        ("remat: policy", lambda: pn.remat(pn.relu, "all"), TypeError, "policy is 'all'"),
        ("concatenate: a number", lambda: pn.concatenate(3), TypeError, "argument is 3"),
        ("per_position: a number", lambda: pn.per_position(3), TypeError, "is 3"),
        ("transformer: no token", lambda: pn.transformer(0), ValueError, "tokens is 0"),
        ("attend: shapes", lambda: ops.attend(ONES, ONES, ONES), ValueError, "q, k and v"),
        ("residual: a number", lambda: pn.residual(3), TypeError, "argument is 3"),
        ("residual: projection", lambda: pn.residual(pn.relu, "w"), TypeError, "argument is 'w'"),
        ("residual: no key", lambda: pn.residual(pn.dense(3)).init(None, 3), TypeError,
         "residual: the key is None"),
        ("residual: two shapes", lambda: applied(pn.residual(pn.dense(4)), ROWS), ValueError,
         r"\(5, 4\).*\(5, 3\).*projection"),
        ("mlp: one size", lambda: pn.mlp().init(KEY, (784,)), ValueError, "list the widths"),
        ("mlp: a number as sizes", lambda: pn.mlp().init(KEY, 784), ValueError, "list the widths"),
        ("mlp: width 0", lambda: pn.mlp().init(KEY, (3, 0, 2)),
         ValueError, r"\(3, 0, 2\).*0 is not"),
        ("mlp: images", lambda: pn.mlp().init(KEY, ((4, 4), 3, 2)),
         ValueError, r"\(4, 4\).*flatten"),
        ("mlp: activation", lambda: pn.mlp(activation="relu"), TypeError, "argument is 'relu'"),
        ("mlp: batch_norm", lambda: pn.mlp(batch_norm=pn.batch_norm()), TypeError,
         r"mlp: batch_norm is batch_norm\(.*\), but True or False"),
        ("mlp: dropout", lambda: pn.mlp(dropout=1.5), ValueError, "dropout: rate is 1.5"),
        ("mlp: initialiser", lambda: pn.mlp(weight_init=0.01),
         TypeError, "mlp: weight_init is 0.01"),
        ("simple_convnet: filters", lambda: pn.simple_convnet(0), ValueError, "conv: filters is 0"),
        ("simple_convnet: too small", lambda: pn.simple_convnet().init(KEY, (4, 4, 1)), ValueError,
         "5 does not fit"),
        ("deep_convnet: dropout", lambda: pn.deep_convnet("0.5"), TypeError, "rate is '0.5'"),
        ("deep_convnet: classes", lambda: pn.deep_convnet(classes=None),
         TypeError, "units is None"),
        ("alexnet: stem", lambda: pn.alexnet(stem=3),
         ValueError, "alexnet: stem is 3, but 3 numbers"),
        ("alexnet: filters", lambda: pn.alexnet(filters=(96, 256)), ValueError, r"\(96, 256\).*5"),
        ("summary: a function", lambda: pn.summary(pn.relu, 3),
         TypeError, "net is the function relu"),
        ("summary: sizes", lambda: pn.summary(NET, (4, 4)), ValueError, r"\(4, 4\).*flatten"),
        # optimizers
        ("mup_rates: a network without mup", lambda: pn.mup_rates(NET, 3), TypeError,
         "mup_rates: net is .*but a network made by mup"),
        ("chain: sgd, not called", lambda: pn.chain(pn.sgd(0.1), pn.sgd), TypeError,
         r"argument 1 is the function sgd.*sgd\(0\.1\)"),
        ("chain: the state of a shorter one",
         lambda: step(pn.chain(pn.sgd(0.1)), B, B, ()), ValueError,
         "chain: the state holds 0 states, but one for each of the 1"),
        ("adamw: without weights",
         lambda: pn.adamw(0.1).update(B, pn.adamw(0.1).init(B)), ValueError,
         r"adamw: `update` needs the weights"),
        ("adamw: a mask of words", lambda: step(pn.adamw(0.1, mask={"w": "yes", "b": "no"}),
                                                WEIGHTS, WEIGHTS),
         ValueError, "adamw: a leaf of the mask is '(yes|no)'"),
        ("apply_updates: another shape", lambda: pn.apply_updates(B, np.ones((3, 2))), ValueError,
         r"the updates have shape \(3, 2\), but the weights there have \(2,\)"),
        ("apply_updates: another structure",
         lambda: pn.apply_updates({"w": W}, {"v": W}), ValueError,
         "apply_updates: the updates have the structure"),
        ("apply_updates: integers", lambda: pn.apply_updates(np.ones(2, int), B),
         TypeError, "int64"),
        ("averaged_weights: none", lambda: pn.averaged_weights(pn.sgd(0.1).init(B)), ValueError,
         "holds 0 averages"),
        ("sgd: the rate of a wrong schedule",
         lambda: step(pn.sgd(lambda step: None), B, B), TypeError, "a schedule: its rate is None"),
        # schedules and initialisers
        ("piecewise: no list", lambda: schedules.piecewise(0.1, [10]),
         TypeError, "rates is 0.1, but a"),
        ("piecewise: counts", lambda: schedules.piecewise([1, 2], [1, 2]),
         ValueError, "2 rates and 2"),
        ("at: a string", lambda: schedules.at("0.1", 3), TypeError, "at: rate is '0.1'"),
        ("floating: not a number", lambda: schedules.floating("x"), (TypeError, ValueError), "x"),
        ("uniform: upside down", lambda: initializers.uniform(1.0, -1.0),
         ValueError, "low is 1.0, but at most high"),
        # rules
        ("hand_vjp: no backward", lambda: pn.hand_vjp(half, half, None), TypeError, "bwd is None"),
        ("hand_vjp: static", lambda: pn.hand_vjp(half, half, half, static=1),
         TypeError, "static is 1"),
        ("hand_vjp: one cotangent", lambda: pull(RULE(lambda kept, g: (g,))), ValueError,
         "returned 1 cotangents, but there are 2 array arguments"),
        ("hand_vjp: no tuple", lambda: pull(RULE(lambda kept, g: g)),
         TypeError, "but a tuple of cotangents"),
        ("hand_vjp: another shape", lambda: pull(RULE(lambda kept, g: (g[:2], g))), ValueError,
         r"cotangent 0 with shape \(2,\), but its argument has shape \(3,\)"),
        ("hand_vjp: no residuals", lambda: pull(pn.hand_vjp(PAIR, PAIR, half)), TypeError,
         r"return value of fwd is .*a pair \(out, residuals\)"),
        ("jvp: no function", lambda: pn.jvp(3, (ONES,), (ONES,)), TypeError, "jvp: f is 3"),
        ("jvp: no tuple", lambda: pn.jvp(half, ONES, ONES),
         TypeError, "primals is an array .*tuple"),
        ("jvp: another shape", lambda: pn.jvp(half, (ONES,), (B,)), ValueError, r"\(2,\).*\(3,\)"),
        ("jvp: too few", lambda: pn.jvp(half, (ONES,), ()),
         ValueError, "tangents have the structure"),
        # records
        ("Layer: no apply", lambda: pn.Layer(half), TypeError, "'apply'"),
        ("Optimizer: no update", lambda: pn.Optimizer(half), TypeError, "'update'"),
        ("Params: nothing", lambda: pn.Params(), TypeError, "'weights'"),
        ("Trainable: nothing", lambda: pn.Trainable(),
         TypeError, "'init', 'epoch', and 'evaluate'"),
        ("TrainState: nothing", lambda: pn.TrainState(), TypeError, "'params'"),
        ("use_cpu_cores: 0", lambda: pn.use_cpu_cores(0), ValueError, "count is 0, but at least 1"),
        ("use_cpu_cores: 2.0", lambda: pn.use_cpu_cores(2.0),
         TypeError, "count is 2.0, but an integer"),
    )
]  # fmt: skip

MISTAKES = [
    *of_ops(), *of_settings(), *of_optimizers(), *of_layers(), *of_initializers(),
    *of_schedules(), *OTHERS,
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.name for mistake in MISTAKES])
def test_a_mistake_is_explained(mistake):
    with pytest.raises(mistake.error, match=mistake.message) as caught:
        mistake.call()
    frames = [entry.path for entry in caught.traceback]
    assert mistake.name.split(":")[0] in RECORDS or "purenet" in str(frames[-1])


RECORDS = {"Layer", "Optimizer", "Params", "Trainable", "TrainState", "floating"}
OWNED = ("purenet.nn.", "purenet.optim.", "purenet.core.vjp", "purenet.core.types",
         "purenet.distributed.devices")  # fmt: skip


def test_every_public_name_has_a_mistake():
    of = lambda value: getattr(value, "__module__", None) or ""
    public = {
        name
        for module in (pn, ops, initializers, schedules)
        for name, value in vars(module).items()
        if name[0] != "_" and callable(value) and of(value).startswith(OWNED)
    }
    assert len(public) > 80
    assert public - {mistake.name.split(":")[0] for mistake in MISTAKES} == set()


# what looks unusual and is legal, beside what it has to equal
class Legal(NamedTuple):
    call: Any  # of the arguments
    unusual: tuple
    clean: tuple


def strided(a):
    """The same numbers, none beside the next."""
    wide = np.zeros(tuple(2 * n for n in a.shape), a.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def backwards(a):
    """The same numbers, from the last address to the first."""
    whole = tuple(slice(None, None, -1) for _ in a.shape)
    return np.ascontiguousarray(a[whole])[whole]


def clean(args):
    return tuple(jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in args)


def relaid(args, how):
    return tuple(how(a) if isinstance(a, np.ndarray) else a for a in args)


def as_floats(args):
    return (args[0].astype(float), *args[1:])


def distinct(args):
    """Other numbers than ones, so that a wrong order shows."""
    rng = np.random.default_rng(0)
    number = lambda a: isinstance(a, np.ndarray) and a.dtype == float
    return tuple(rng.uniform(0.5, 1.5, a.shape) if number(a) else a for a in args)


LAYOUTS = {
    "every second": strided, "Fortran order": np.asfortranarray, "backwards": backwards,
    "read only": lambda a: np.broadcast_to(a, a.shape),
}  # fmt: skip
WHOLE = np.array([[0, 200, 255], [3, 2, 1], [9, 9, 9], [1, 0, 250], [7, 8, 7]], np.uint8)
BYTES = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3) * 2 + 60
INTEGERS = [name for name, (x, *_) in OPERANDS.items() if name not in ("look_up", "col2im")]


def of_legal():
    for name, args in OPERANDS.items():
        op, args = getattr(ops, name), distinct(args)
        for what, how in LAYOUTS.items():
            yield f"{name}, {what}", Legal(op, relaid(args, how), clean(args))
    for name in INTEGERS:
        op, (x, *rest) = getattr(ops, name), distinct(OPERANDS[name])
        x = BYTES if x.shape == BYTES.shape else np.resize(WHOLE, x.shape)
        args = (x, *rest)
        yield f"{name} of bytes", Legal(op, args, as_floats(args))
        shapes = lambda *args, op=op: jax.eval_shape(lambda: op(*args))
        args = (x > 5, *rest)
        yield f"{name} of bools", Legal(shapes, args, as_floats(args))
    act = lambda name: lambda x: getattr(ops, name)(x)
    for name in (
        "relu",
        "elu",
        "gelu",
        "sigmoid",
        "tanh",
        "softplus",
        "silu",
        "selu",
        "leaky_relu",
    ):
        yield f"{name} of a number", Legal(act(name), (-2,), (jnp.array(-2.0),))
        yield f"{name} of NumPy's", Legal(act(name), (np.float32(-2),), (jnp.array(-2.0),))
    init = lambda key: NET.init(key, 3)
    dense = lambda units, sizes: pn.dense(units).init(KEY, sizes)
    conv = lambda kernel, stride: applied(pn.conv(2, kernel, stride), IMAGES, (4, 4, 3))
    pool = lambda size, padding: applied(pn.max_pool(size, padding=padding), IMAGES, (4, 4, 3))
    loss = lambda labels: pn.softmax_cross_entropy(ROWS * WHOLE, labels)
    right = lambda labels: pn.accuracy(ROWS * WHOLE, labels)
    moved = lambda rate, g: step(pn.adam(rate), g, WEIGHTS)
    at = lambda t: schedules.warmup(schedules.cosine(0.1, 10), 4)(t)
    labels, old, new = np.array([2, 1, 0, 1, 2]), jax.random.PRNGKey(0), jax.random.key(0)
    grads = {"w": W, "b": B}
    yield from {
        "a key of the old style": Legal(init, (old,), (new,)),
        "a key of NumPy": Legal(init, (np.asarray(old),), (new,)),
        "dropout, a key of the old style": Legal(
            lambda key: ops.drop(ROWS, 0.5, key), (old,), (new,)),
        "units of NumPy": Legal(dense, (np.int8(4), (np.int64(3),)), (4, 3)),
        "units of JAX": Legal(dense, (jnp.array(4), 3), (4, 3)),
        "sizes in a list": Legal(dense, (4, [3]), (4, 3)),
        "a kernel in a list": Legal(conv, ([3, 2], [1, 2]), ((3, 2), (1, 2))),
        "a window in a list": Legal(pool, ([2, 2], [1, 0]), (2, (1, 0))),
        "widths in a list": Legal(
            lambda sizes: pn.mlp().init(KEY, sizes), ([3, 4, 2],), ((3, 4, 2),)),
        "labels of bytes": Legal(loss, (labels.astype(np.uint8),), (jnp.asarray(labels),)),
        "one-hot labels of bools": Legal(
            loss, (labels[:, None] == np.arange(3),), (jnp.asarray(labels),)),
        "accuracy of NumPy": Legal(right, (strided(labels),), (jnp.asarray(labels),)),
        "a squared error of numbers": Legal(
            pn.mean_squared_error, (1, 3.0), (jnp.array(1.0), jnp.array(3.0))),
        "rates of NumPy": Legal(moved, (np.float32(0.5), grads), (0.5, clean_tree(grads))),
        "rates of an array": Legal(moved, (np.array(0.5), grads), (0.5, clean_tree(grads))),
        "gradients in Fortran order": Legal(
            moved, (0.5, {"w": np.asfortranarray(W), "b": strided(B)}), (0.5, clean_tree(grads))),
        "a step of NumPy": Legal(at, (np.int32(6),), (jnp.array(6),)),
        "steps of an array": Legal(at, (np.arange(20)[::2],), (jnp.arange(0, 20, 2),)),
        "shapes in a list": Legal(
            lambda shape: initializers.he_normal(KEY, shape), ([3, np.int64(2)],), ((3, 2),)),
        "an empty batch": Legal(shapes_of, (NET, ROWS[:0], 3), (NET, jnp.zeros((0, 3)), 3)),
        "an empty batch of images": Legal(
            shapes_of, (pn.conv(2, 3), IMAGES[:0], (4, 4, 3)),
            (lambda x: jnp.zeros((0, 2, 2, 2)), ONES, 3)),
        "an activation that is a layer with weights": Legal(
            shapes_of, (pn.mlp(pn.dense(5)), ROWS, (3, 4, 4, 2)),
            (pn.serial(*map(pn.dense, (4, 5, 4, 5, 2))), ROWS, 3)),
    }.items()  # fmt: skip


def shapes_of(net, x, sizes):
    return jax.eval_shape(lambda: applied(pn.serial(net) if callable(net) else net, x, sizes)[0])


def clean_tree(tree):
    return jax.tree.map(jnp.asarray, tree)


LEGAL = dict(of_legal())


@pytest.mark.parametrize("legal", LEGAL.values(), ids=LEGAL.keys())
def test_what_looks_unusual_gives_the_same(legal):
    got, expected = legal.call(*legal.unusual), legal.call(*legal.clean)
    chex.assert_trees_all_equal_shapes(got, expected)
    if not isinstance(jax.tree.leaves(got)[0], jax.ShapeDtypeStruct):
        chex.assert_trees_all_close(got, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", OPERANDS)
def test_float64_of_numpy_is_float32_where_x64_is_off(name):
    with jax.enable_x64(False):
        args = distinct(OPERANDS[name])
        shapes = jax.eval_shape(lambda: getattr(ops, name)(*args))
        assert {a.dtype.name for a in jax.tree.leaves(shapes)} == {"float32"}


def test_an_array_of_numpy_gives_one_of_jax():
    with jax.enable_x64(False):
        y = ops.affine(ROWS, W, B)
        assert isinstance(y, jax.Array) and y.dtype == jnp.float32


def test_gradients_reach_the_weights_of_integers_and_of_another_float():
    x = BYTES[..., :1].repeat(8, -1)  # 8 channels: by lax.conv, which wants one dtype
    w = jnp.cos(jnp.arange(3 * 3 * 8 * 2.0)).reshape(3, 3, 8, 2)
    gradient = jax.grad(lambda w, x: (ops.convolve(x, w, jnp.zeros(2)) ** 2).sum(), (0, 1))
    whole = jax.grad(lambda w: (ops.convolve(x, w, jnp.zeros(2)) ** 2).sum())
    np.testing.assert_allclose(whole(w), gradient(w, x.astype(float))[0], rtol=1e-12)
    dw, dx = jax.eval_shape(gradient, w, x.astype(jnp.bfloat16))
    assert (dw.dtype, dx.dtype) == (jnp.float64, jnp.bfloat16)


def test_labels_outside_are_nan_where_they_are_not_known():
    wrong = np.array([0, 1, 3, 0, 1])
    assert np.isnan(pn.softmax_cross_entropy(ROWS, wrong))
    assert pn.accuracy(ROWS, wrong) == np.float32(0.4)
