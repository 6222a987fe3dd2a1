"""Streams of the data sets of other libraries, each with the real one where it is installed."""

import numpy as np
import pytest
from test_streams_faults import (
    SIZE,
    VALIDATION,
    Broken,
    T,
    X,
    fit,
    no_thread_is_left,
    same,
    stream,
    whole,
)

import purenet as pn

__all__ = ["no_thread_is_left", "whole"]  # fixtures


def test_a_data_set_of_pytorch(key, whole):
    data = pytest.importorskip("torch.utils.data", exc_type=ImportError)
    import torch

    dataset = data.TensorDataset(torch.from_numpy(X), torch.from_numpy(T))
    same(fit((stream(dataset), VALIDATION), 4, key), whole)


def test_a_data_set_of_hugging_face(key, whole):
    """With `prepare`, since its examples are dicts."""
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"x": X, "t": T}).with_format("numpy")
    prepare = lambda m: (m["x"].astype(np.float32), m["t"].astype(np.int32))
    same(fit((stream(dataset, prepare=prepare), VALIDATION), 4, key), whole)


def test_hdf5(key, whole, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"], file["t"] = X, T
        same(fit((stream((file["x"], file["t"])), VALIDATION), 4, key), whole)


def test_grain(key, whole, tmp_path):
    grain = pytest.importorskip("grain")
    examples = grain.MapDataset.source([(x, t) for x, t in zip(X, T, strict=True)])
    same(fit((stream(examples), VALIDATION), 4, key), whole)
    left = [10**6]  # examples until the source fails

    def read(example):
        left[0] -= 1
        if left[0] == 0:
            raise Broken
        return example

    batches = examples.seed(1).shuffle().repeat().map(read).batch(SIZE)
    data = stream(batches.to_iter_dataset(grain.ReadOptions(num_threads=0)), steps_per_epoch=5)
    expected = fit((data, VALIDATION), 3, key)
    left[0] = 8 * SIZE
    with pytest.raises(Broken):
        fit((data, VALIDATION), 3, key, path=tmp_path / "run.npz")
    saved = pn.checkpoint.load_metadata(tmp_path / "run.npz")["fit"]
    assert (saved["epochs"], saved["stream"]["at"]) == (1, 2)
    same(fit((data, VALIDATION), 3, key, path=tmp_path / "run.npz"), expected)
