"""The convolutional suites of the benchmark, against raw JAX: lax.conv, reduce_window, autodiff."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_timing import (
    BATCH,
    measure,
    purenet_steps,
    show,
    temporaries,
    there_and_back,
)
from jax import lax

import purenet as pn
from purenet import ops, sweep
from purenet.nn.conv import METHODS, choose_method
from purenet.nn.conv_forms import FORMS, spare_rows
from purenet.nn.windows import Geometry


def images(n):
    rng = np.random.default_rng(0)
    x = rng.random((n, 28, 28, 1), np.float32) * (rng.random((n, 28, 28, 1)) < 0.2)
    return x.astype(np.float32), rng.integers(0, 10, n).astype(np.int32)


def lax_conv(x, w, b, stride, padding):
    pads = padding if isinstance(padding, str) else ((padding, padding),) * 2
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=dimensions) + b


def lax_max_pool(x, size, stride):
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "VALID")


def steps(reps):
    """A training step at batch 100 inside a scan: (c) SimpleConvNet, (d) DeepConvNet, Adam.

    Both programs train the same network. A call has a dozen steps or more, as an epoch has: in a
    shorter one the operating system's first touch of the temporaries is most of the time.
    """
    for title, net, count in (
        ("(c) SimpleConvNet", pn.simple_convnet(), 40),
        ("(d) DeepConvNet", pn.deep_convnet(), 12),
    ):
        data = jax.tree.map(jnp.asarray, images(count * BATCH))
        programs = {
            "lax.conv, reduce_window, automatic": raw_steps(net, data, count),
            "purenet": purenet_steps(net, (28, 28, 1), pn.adam(1e-3), data),
        }
        samples = {n: [s / count for s in v] for n, v in measure(programs, reps).items()}
        note = lambda name, seconds, programs=programs: f"{temporaries(programs[name])} MiB"
        show(f"{title}, a step", samples, note=note)


def raw_steps(net, data, count):
    """The same network and optimizer, its layers written with JAX's own operations."""
    names = [layer.spec for layer in net.spec[1]["layers"]]
    params = net.init(jax.random.key(0), (28, 28, 1))
    optimizer = pn.adam(1e-3)

    def forward(weights, x, key):
        for i, (name, options) in enumerate(names):
            w = weights.get(str(i), {})
            if name == "conv":
                x = lax_conv(x, w["w"], w["b"], 1, options["padding"])
            elif name == "relu":
                x = jax.nn.relu(x)
            elif name == "max_pool":
                x = lax_max_pool(x, 2, 2)
            elif name == "flatten":
                x = x.reshape(len(x), -1)
            elif name == "dense":
                x = x @ w["w"] + w["b"]
            elif name == "dropout":
                x = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)
        return x

    def step(state, now):
        weights, opt_state = state
        rows, key = now
        x, t = data[0][rows], data[1][rows]

        def loss(weights):
            logits = jax.nn.log_softmax(forward(weights, x, key))
            return -jnp.take_along_axis(logits, t[:, None], 1).mean()

        value, g = jax.value_and_grad(loss)(weights)
        updates, opt_state = optimizer.update(g, opt_state, weights)
        return (pn.apply_updates(weights, updates), opt_state), value

    @jax.jit
    def epoch(state, key):
        rows = jax.random.permutation(key, len(data[0])).reshape(count, BATCH)
        return lax.scan(step, state, (rows, jax.random.split(key, count)))

    state = params.weights, optimizer.init(params.weights)
    return functools.partial(epoch, state, jax.random.key(1))


LAYERS = (  # (title, (size, channels), filters, kernel, stride, padding)
    ("1 -> 30, 5x5 on 28x28", (28, 1), 30, 5, 1, 0),
    ("1 -> 16, 3x3 on 28x28", (28, 1), 16, 3, 1, 1),
    ("16 -> 16, 3x3 on 28x28", (28, 16), 16, 3, 1, 1),
    ("16 -> 32, 3x3 on 14x14", (14, 16), 32, 3, 1, 1),
    ("32 -> 32, 3x3 on 14x14, padding 2", (14, 32), 32, 3, 1, 2),
    ("32 -> 64, 3x3 on 8x8", (8, 32), 64, 3, 1, 1),
    ("64 -> 64, 3x3 on 8x8", (8, 64), 64, 3, 1, 1),
    ("16 -> 32, 3x3 by steps of 2 on 28x28", (28, 16), 32, 3, 2, 1),
)


def table(reps, repeats=4):
    """Forward and backward of one convolution at batch 100: every method of ours, and lax.conv.

    One of a single channel is a first layer, whose images need no gradient: there it is left out.
    """
    for title, (size, c), f, k, stride, padding in LAYERS:
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (BATCH, size, size, c))
        w = jax.random.normal(keys[1], (k, k, c, f)) * 0.1
        by_lax = lambda x, w, b, s=stride, p=padding: lax_conv(x, w, b, s, p)
        args = (x, w, jnp.zeros(f))
        g = jax.random.normal(keys[2], jax.eval_shape(by_lax, *args).shape)
        programs, memory = {}, {}

        def add(name, op, looped=True, args=args, g=g, programs=programs, memory=memory):
            kept = 1 if args[0].shape[3] == 1 else 0

            def once(args, _=None, op=op, g=g, kept=kept):
                fixed, rest = args[:kept], args[kept:]
                g = g + 1e-12 * rest[0].mean()  # or the gradient of fixed images is computed once
                moved = there_and_back(lambda *rest: op(*fixed, *rest), rest, g)
                return (*fixed, *moved), None

            scan = lambda args: lax.scan(once, args, None, repeats)[0]
            program = jax.jit(scan if looped else lambda args: once(args)[0])
            memory[name] = f"{temporaries(functools.partial(program, args))} MiB"
            calls = 1 if looped else repeats
            programs[name] = lambda: [program(args) for _ in range(calls)]

        add("lax.conv, automatic, in a scan", by_lax)
        add("lax.conv, automatic, no scan", by_lax, looped=False)
        choice = choose_method(x.shape, w.shape, stride, padding)
        for method in METHODS:
            plain_only = stride > 1 and method in ("blocked", "winograd")
            if plain_only or (method, k) == ("winograd", 5) or method == "depthwise":
                continue
            chosen = " (chosen on a CPU)" if method == choice else ""
            op = lambda x, w, b, s=stride, p=padding, m=method: ops.convolve(x, w, b, s, p, m)
            add(f"{method}, by hand, in a scan{chosen}", op)
        samples = {n: [s / repeats for s in v] for n, v in measure(programs, reps).items()}
        show(title, samples, note=lambda name, seconds, m=memory: m[name])


def cores(reps):
    """lax.conv as XLA runs it and with the rows that keep it off the single-core library.

    Where the second row is no longer faster, `purenet.nn.conv_forms.spare_rows` has outlived
    its reason.
    """
    for size, c, f, k in ((8, 64, 64, 3), (14, 32, 16, 3), (14, 32, 32, 5), (28, 32, 32, 3)):
        pads = ((k // 2, k // 2),) * 2
        x = jax.random.normal(jax.random.key(0), (BATCH, size, size, c), jnp.float32)
        w = jax.random.normal(jax.random.key(1), (k, k, c, f), jnp.float32)
        at = Geometry((size, size), (k, k), (1, 1), pads)
        titles = ("as it is", f"{spare_rows(x.shape, w.shape, pads)} row more, cut off")
        programs = {
            title: functools.partial(jax.jit(FORMS[name](at).output), x, w)
            for title, name in zip(titles, ("lax", "direct"), strict=True)
        }
        show(f"lax.conv {c} -> {f}, {k}x{k} on {size}x{size}", measure(programs, reps))


def pooling(reps, repeats=4):
    """Forward and backward of max pooling at batch 100 inside a scan."""
    x = jax.random.normal(jax.random.key(0), (BATCH, 24, 24, 30))
    for size, stride in ((2, 2), (3, 2)):
        ops_here = {
            "reduce_window, automatic": lambda x, k=size, s=stride: lax_max_pool(x, k, s),
            "pool_max, by hand": lambda x, k=size, s=stride: ops.pool_max(x, k, s),
        }
        programs = {}
        for name, op in ops_here.items():
            g = jax.random.normal(jax.random.key(1), jax.eval_shape(op, x).shape)
            once = lambda args, _, op=op, g=g: (there_and_back(op, args, g), None)
            many = jax.jit(lambda args, once=once: lax.scan(once, args, None, repeats)[0])
            programs[name] = functools.partial(many, (x,))
        samples = {n: [s / repeats for s in v] for n, v in measure(programs, reps).items()}
        show(f"max pooling {size}x{size} by steps of {stride} on 24x24x30", samples)


def sweeps(reps, trials=16, epochs=1):
    """16 SimpleConvNets, each with its own rate and weight decay, against vmap of whole runs."""
    x, t = images(500)
    data = (x[100:], t[100:]), (x[:100], t[:100])
    space = {"rate": sweep.loguniform(1e-4, 1e-2), "decay": sweep.loguniform(1e-8, 1e-4)}

    def convnet(hyper):
        return pn.supervised(pn.simple_convnet(), (28, 28, 1), pn.adam(hyper["rate"]),
                             pn.softmax_cross_entropy, BATCH, pn.l2(hyper["decay"]))  # fmt: skip

    result = sweep.run(convnet, space, data, trials, epochs, progress=False)
    hypers = {name: jnp.asarray(column) for name, column in result.hyper.items()}
    arrays = jax.tree.map(jnp.asarray, data)

    def whole(key, hyper):
        trainable = convnet(hyper)

        def epoch(state, _):
            state, _ = trainable.epoch(state, arrays[0])
            return state, [trainable.evaluate(state, part) for part in arrays]

        return lax.scan(epoch, trainable.init(key), None, epochs)[1]

    vmapped, keys = jax.jit(jax.vmap(whole)), jax.random.split(jax.random.key(0), trials)
    programs = {
        "vmap of whole runs": lambda: vmapped(keys, hypers),
        "purenet sweep.run": lambda: (
            sweep.run(convnet, space, data, trials, epochs, progress=False).status
        ),
    }
    title = f"{trials} SimpleConvNets x {epochs} epoch(s) of 400 images, whole job"
    show(title, measure(programs, reps), 1, "s")
