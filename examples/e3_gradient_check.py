"""Every hand-written gradient against the automatic and the numerical one.

The table that `purenet check` prints: for each operation the worst entry of its hand-written
gradient, beside the gradient that JAX derives from the plain forward and beside central differences
with h = 1e-4 in float64 and 1e-2 in float32 (which --quick leaves out). Then a whole network,
parameter by parameter. The check is that of every course on neural networks, such as Saito's "Deep
Learning from Scratch" (2016), section 5.7.4, which takes the mean error of each parameter; here the
worst entry counts.

The lesson: in float64 two derivations of the same formula agree to the last digits and
differences to about seven; in float32 differences are good for two to four, so check in float64.

    python examples/e3_gradient_check.py
"""

import common
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import purenet as pn
from purenet import gradcheck

chosen = common.options(__doc__)
dtypes = ("float64",) if chosen.quick else ("float64", "float32")
ops = ("affine", "convolve", "pool_max", "softmax_cross_entropy") if chosen.quick else None
reports = {dtype: gradcheck.report(dtype, chosen.seed, ops) for dtype in dtypes}
print(gradcheck.table(*reports.values()))

# a picture: every error on one logarithmic axis, those of 0 at its left end
LEAST = 1e-17
MARKS = {("float64", "automatic"): "o", ("float64", "numerical"): "s",
         ("float32", "automatic"): "^", ("float32", "numerical"): "D"}  # fmt: skip
COLOURS = ("#173f6b", "#3a8f5c", "#6fa8dc", "#e07b24")
names = [row.op for row in reports["float64"]]
figure = Figure(figsize=(8.4, 6.8), layout="constrained")
axes = figure.subplots()
for ((dtype, kind), mark), colour in zip(MARKS.items(), COLOURS, strict=True):
    if dtype not in reports:
        continue
    errors = [max(getattr(row, kind).error, LEAST) for row in reports[dtype]]
    label = f"{dtype}, {kind}"
    axes.plot(errors, names, mark, color=colour, markersize=5, linestyle="", label=label)
    limit = getattr(gradcheck.TOLERANCES[dtype], kind)
    axes.axvline(limit, color=colour, linestyle="--", linewidth=0.8)
axes.set_xscale("log")
axes.set_xlim(LEAST / 3, 1)
axes.set_xticks(
    [LEAST, *10.0 ** np.arange(-15, 1, 3)], ["0", *(f"1e{i}" for i in range(-15, 1, 3))]
)
axes.minorticks_off()
axes.invert_yaxis()
axes.grid(True, color="#e3e3e3", linewidth=0.6)
axes.set_axisbelow(True)
axes.tick_params(labelsize=8)
axes.spines[["top", "right"]].set_visible(False)
axes.set_xlabel("error of the worst entry; dashed: the tolerance", fontsize=9)
axes.set_title("gradients by hand against automatic and numerical ones", fontsize=11)
figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
figure.savefig(chosen.out / "e3_errors.png", dpi=120)

# a whole network, with parameters of every kind
with jax.enable_x64(True):
    net = pn.serial(
        pn.conv(4, 3), pn.batch_norm(), pn.tanh, pn.avg_pool(2), pn.flatten,
        pn.dense(8), pn.layer_norm(), pn.gelu, pn.dropout(0.3), pn.dense(10),
    )  # fmt: skip
    x, t = pn.data.digits(flatten=False)
    x, t = jnp.asarray(x[:10], float), jnp.asarray(t[:10])
    for_weights, for_dropout = jax.random.split(jax.random.key(chosen.seed))
    params = net.init(for_weights, x.shape[1:])

    def loss(weights):
        y, _ = net.apply(pn.Params(weights, params.stats), x, True, for_dropout)
        return pn.softmax_cross_entropy(y, t)

    by_hand = jax.grad(loss)(params.weights)
    numerical = gradcheck.numerical_gradient(loss, params.weights)
    errors = jax.tree.map(lambda a, b: float(abs(a - b).max()), by_hand, numerical)
    print("a network of ten layers, largest difference in each of its parameters:")
    for path, error in jax.tree_util.tree_leaves_with_path(errors):
        print(f"{jax.tree_util.keystr(path):>16}  {error:.1e}")

assert all(row.passed for rows in reports.values() for row in rows), "a gradient is wrong"
assert max(jax.tree.leaves(errors)) < 1e-6, "the gradient of the network is wrong"
