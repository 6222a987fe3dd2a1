"""The input gradient of a convolution at odd strides, kernels and paddings, in one process of its
own: there are shapes at which XLA's own form of it ends the process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

# (x, w, stride, padding)
KNOWN = [
    ((3, 1, 6, 5), (3, 2, 5, 1), (3, 2), (2, 1)),
    ((1, 6, 1, 3), (2, 2, 3, 1), (2, 4), (1, 2)),
    ((1, 4, 1, 1), (2, 2, 1, 2), (2, 2), (1, 1)),
    ((1, 6, 3, 1), (2, 4, 1, 1), (2, 3), (1, 1)),
]


def shapes(count, seed=0):
    """The known ones, and others drawn: small images, half of the axes with kernel and stride 2."""
    rng = np.random.default_rng(seed)
    found = list(KNOWN)
    while len(found) < count:
        half = rng.integers(0, 2, 2, bool)
        kernel = np.where(half, 2, rng.integers(1, 5, 2))
        stride = np.where(half, 2, rng.integers(1, 5, 2))
        padding = np.where(half, 1, rng.integers(0, 4, 2))
        size = np.where(half, 2 * rng.integers(2, 4, 2), rng.integers(1, 7, 2))
        n, c, f = rng.integers(1, 3, 3)
        if (size + 2 * padding >= kernel).all():
            case = ((n, *size, c), (*kernel, c, f), stride, padding)
            found.append(tuple(tuple(map(int, part)) for part in case))
    return found


def expected(g, w, sizes, stride, padding):
    """dx, output by output: each sends its cotangent, times the kernel, back to its window."""
    (n, oh, ow, _), (kh, kw, c, _) = g.shape, w.shape
    (h, wide), (p, q) = sizes, padding
    dx = np.zeros((n, h + 2 * p + kh, wide + 2 * q + kw, c))
    for i in range(oh):
        for j in range(ow):
            top, left = i * stride[0], j * stride[1]
            dx[:, top : top + kh, left : left + kw] += np.einsum("nf,hwcf->nhwc", g[:, i, j], w)
    return dx[:, p : p + h, q : q + wide]


def compare(count):
    """All shapes in one program, which is compiled as users compile theirs."""
    import jax
    import jax.numpy as jnp

    from purenet.nn.ops import convolve

    rng = np.random.default_rng(1)
    cases = shapes(count)
    kernels = [rng.normal(size=w) for _, w, _, _ in cases]

    @jax.jit
    def gradients(kernels):
        found = []
        for (x, _, stride, padding), w in zip(cases, kernels, strict=True):
            f = lambda x, w=w, s=stride, p=padding: convolve(x, w, 0.0, s, p, "direct")
            y, pull = jax.vjp(f, jnp.zeros(x))
            g = jnp.cos(jnp.arange(float(y.size))).reshape(y.shape)
            found.append((g, *pull(g)))
        return found

    for case, w, (g, dx) in zip(cases, kernels, gradients(kernels), strict=True):
        x, _, stride, padding = case
        reference = expected(np.asarray(g), w, x[1:3], stride, padding)
        np.testing.assert_allclose(dx, reference, rtol=1e-10, atol=1e-12, err_msg=str(case))
    print(f"{len(cases)} shapes")


def test_the_input_gradient_is_right_at_odd_shapes_and_never_ends_the_process():
    environment = os.environ | {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    child = subprocess.run(
        [sys.executable, __file__, "40"],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[:2000]
    assert child.stdout == "40 shapes\n"


if __name__ == "__main__":
    compare(int(sys.argv[1]))
