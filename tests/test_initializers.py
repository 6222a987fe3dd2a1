"""Initialisers have the deviation of the papers that they are named after."""

import hashlib

import jax
import numpy as np
import pytest

from purenet import initializers
from purenet.checkpoint import spec

# the deviation for a matrix (i, o), from the papers: LeCun et al. (1998), equation 16;
# Glorot & Bengio (2010), equations 12 and 16; He et al. (2015), equation 10
DEVIATIONS = {
    "lecun_normal": lambda i, o: np.sqrt(1 / i),
    "glorot_normal": lambda i, o: np.sqrt(2 / (i + o)),
    "glorot_uniform": lambda i, o: np.sqrt(2 / (i + o)),  # a = √(6 / (i + o)) has a² / 3
    "he_normal": lambda i, o: np.sqrt(2 / i),
    "he_uniform": lambda i, o: np.sqrt(2 / i),
}


@pytest.mark.parametrize("shape", [(400, 100), (100, 400), (3, 5, 8, 64)])
@pytest.mark.parametrize("name", DEVIATIONS)
def test_the_deviation_is_that_of_the_paper(name, shape, key):
    w = getattr(initializers, name)(key, shape)
    places = int(np.prod(shape[:-2]))
    expected = DEVIATIONS[name](places * shape[-2], places * shape[-1])
    assert abs(w.std() / expected - 1) < 4 / np.sqrt(2 * w.size)
    assert abs(w.mean()) < 4 * expected / np.sqrt(w.size)
    if name.endswith("_uniform"):
        limit = expected * np.sqrt(3)
        assert 0.999 * limit < np.abs(w).max() <= limit


def test_every_scaled_initialiser_is_compared_with_its_paper():
    scaled = {name for name in vars(initializers) if name.endswith(("_normal", "_uniform"))}
    assert {name for name in scaled if not name.startswith("_")} == set(DEVIATIONS)
    assert set(DEVIATIONS) <= set(spec._FUNCTIONS)


def test_the_draws_of_lecun_normal_are_these(key):
    """Networks that start from them reproduce their published numbers."""
    w = initializers.lecun_normal(key, (4, 3), np.float32)
    np.testing.assert_array_equal(w, jax.random.normal(key, (4, 3), np.float32) * np.float32(0.5))
    assert hashlib.sha256(np.asarray(w).tobytes()).hexdigest()[:16] == "324738cdb1b02d2e"
