"""The suite of the benchmark about the precision and the memory of a whole network."""

import jax
import jax.numpy as jnp
from benchmark_convolutions import images
from benchmark_timing import BATCH, measure, purenet_steps, show, temporaries

import purenet as pn


def in_blocks(net):
    """The network with a remat around every block that ends in max pooling."""
    parts, block = [], []
    for layer in net.spec[1]["layers"]:
        block.append(layer)
        if layer.spec[0] == "max_pool":
            parts.append(pn.remat(pn.serial(*block)))
            block = []
    return pn.serial(*parts, *block)


def steps(reps, count=4):
    """A training step of the DeepConvNet at batch 100 inside a scan, Adam, and its memory."""
    data = jax.tree.map(jnp.asarray, images(count * BATCH))
    choices = {
        "plain": (pn.deep_convnet(), 1),
        "bfloat16": (pn.deep_convnet(compute_dtype=jnp.bfloat16), 1),
        "remat of the three blocks": (in_blocks(pn.deep_convnet()), 1),
        "4 microbatches": (pn.deep_convnet(), 4),
    }
    programs = {
        name: purenet_steps(net, (28, 28, 1), pn.adam(1e-3), data, microbatches)
        for name, (net, microbatches) in choices.items()
    }
    samples = {n: [s / count for s in v] for n, v in measure(programs, reps).items()}
    memory = {name: f"{temporaries(program)} MiB" for name, program in programs.items()}
    show("DeepConvNet, a step", samples, note=lambda name, seconds: memory[name])
