"""The command that measures an accelerator, at its smallest, on whatever device there is."""

import importlib.machinery
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    loader = importlib.machinery.SourceFileLoader("accelerator", str(SCRIPTS / "accelerator"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("accelerator", loader))
    loader.exec_module(module)
    return module


def test_it_prints_a_table_and_writes_the_figures(script, tmp_path, capsys):
    assert script.main(["--quick", "--out", str(tmp_path / "found.json")]) == 0
    report = json.loads((tmp_path / "found.json").read_text())
    (row,) = report["rows"]
    assert (row["name"], row["dtype"], row["trials"]) == ("SimpleConvNet", "bfloat16", 2)
    assert row["ratio"] == row["seconds"] / row["raw_seconds"]
    # 2 networks of 4 images: convolution 9*2*16, then 8 -> 4 -> 10, each forward and twice backward
    products = 2 * 4 * 2 * (9 * 2 * 16 + 8 * 4 + 4 * 10)
    assert 2 * products < row["flops_a_step"] < 9 * products
    step = max(row["flops_a_step"] / report["limits"]["bfloat16"],
               row["bytes_a_step"] / report["limits"]["bytes"])  # fmt: skip
    assert row["share_of_limit"] == pytest.approx(1e3 * step / row["ms_a_step"])
    assert "| SimpleConvNet, 2 | bfloat16 |" in capsys.readouterr().out
    assert not report["faults"]


def test_a_row_that_fails_is_told_and_the_exit_status_says_so(script, tmp_path, monkeypatch):
    import benchmark_card

    def out_of_memory(*args):
        raise MemoryError("no room")

    monkeypatch.setattr(benchmark_card, "limits", lambda quick: {})
    monkeypatch.setattr(benchmark_card, "measured", out_of_memory)
    assert script.main(["--quick", "--out", str(tmp_path / "found.json")]) == 1
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["faults"] == ["SimpleConvNet, 2, bfloat16: no room"]


def test_without_an_accelerator_it_says_what_is_missing(script, capsys):
    if jax.default_backend() != "cpu":
        pytest.skip("this machine has one")
    assert script.main([]) == 1
    assert "install the jax of your device, or --quick" in capsys.readouterr().out


def test_raw_jax_computes_the_same_network(script):
    import benchmark_card as card

    (row,) = card.rows(True)
    net = row.net(None)
    params = net.init(jax.random.key(0), row.sizes)
    x = jnp.asarray(np.random.default_rng(0).random((3, *row.sizes)))
    by_hand, _ = net.apply(params, x, False, None)
    raw = card.forward(net, params.weights, x, None)
    np.testing.assert_allclose(by_hand, raw, rtol=1e-5)
