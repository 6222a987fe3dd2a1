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


@pytest.fixture
def here(script, monkeypatch):
    """The script, with its processes run in this one."""
    import benchmark_card as card

    plain = lambda answer: json.loads(json.dumps(answer))
    monkeypatch.setattr(script, "asked", lambda request, seconds: plain(card.answer(*request)))
    return script


def test_it_prints_a_table_and_writes_the_figures(here, tmp_path, capsys):
    assert here.main(["--quick", "--out", str(tmp_path / "found.json")]) == 0
    report = json.loads((tmp_path / "found.json").read_text())
    (row,) = report["rows"]
    assert (row["name"], row["dtype"], row["trials"]) == ("SimpleConvNet", "bfloat16", 2)
    assert row["ratio"] == row["seconds"] / row["raw_seconds"] and row["raw_fault"] is None
    # 2 networks of 4 images: convolution 9*2*16, then 8 -> 4 -> 10, each forward and twice backward
    products = 2 * 4 * 2 * (9 * 2 * 16 + 8 * 4 + 4 * 10)
    assert 2 * products < row["flops_a_step"] < 9 * products
    step = max(row["flops_a_step"] / report["limits"]["bfloat16"],
               row["bytes_a_step"] / report["limits"]["bytes"])  # fmt: skip
    assert row["share_of_limit"] == pytest.approx(1e3 * step / row["ms_a_step"])
    assert "| SimpleConvNet, 2 | bfloat16 |" in capsys.readouterr().out
    assert not report["faults"]


def test_a_row_that_fails_is_told_and_the_others_are_kept_at_once(script, tmp_path, monkeypatch):
    out = tmp_path / "found.json"
    row = {"name": "E9", "trials": 2, "dtype": "float32", "ms_a_step": 1.0, "ratio": None,
           "share_of_limit": 0.5}  # fmt: skip
    kept = []  # rows in the file when the next one starts

    def asked(request, seconds):
        if request[0] == "device":
            return "a card", {}
        kept.append(len(json.loads(out.read_text())["rows"]))
        if len(kept) == 2:
            raise RuntimeError("exit status -11, no room")
        return row

    monkeypatch.setattr(script, "asked", asked)
    monkeypatch.setattr(script, "tests", lambda: "passed")
    assert script.main(["--out", str(out)]) == 1
    report = json.loads(out.read_text())
    assert report["faults"] == ["E9, 40, bfloat16: exit status -11, no room"]
    assert kept == [0, 1, *range(1, len(kept) - 1)] and len(report["rows"]) == len(kept) - 1
    assert [file.name for file in tmp_path.iterdir()] == ["found.json"]


def test_processes_answer_or_say_why_not(script):
    about, limits = script.asked(["device", True], 100)
    assert jax.__version__ in about and limits.keys() == {"float32", "bfloat16", "bytes"}
    with pytest.raises(RuntimeError, match="exit status 1, IndexError: list index"):
        script.asked(["row", True, 5, "float32", limits], 100)
    with pytest.raises(RuntimeError, match=r"^not done after 0 s$"):
        script.asked(["device", True], 0.01)
    with pytest.raises(RuntimeError, match=r"^not started, the 20 minutes are over$"):
        script.asked(["device", True], -1)


def test_the_figures_do_not_depend_on_raw_jax(script, monkeypatch):
    import benchmark_card as card

    def out_of_memory(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no room")

    monkeypatch.setattr(card, "raw_job", out_of_memory)
    found = card.measured(card.rows(True)[0], "bfloat16", {"bfloat16": 1e9, "bytes": 1e9}, 1)
    assert found["seconds"] > 0 and found["ratio"] is None
    assert found["raw_fault"] == "RESOURCE_EXHAUSTED: no room"
    assert "| failed |  |" in card.table([found])


def test_without_an_accelerator_it_says_what_is_missing(here, tmp_path, capsys):
    if jax.default_backend() != "cpu":
        pytest.skip("this machine has one")
    assert here.main(["--out", str(tmp_path / "found.json")]) == 1
    assert "install the jax of your device, or --quick" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        here.main(["--out", str(tmp_path / "nowhere" / "found.json")])


@pytest.mark.parametrize("name", ["E9", "SimpleConvNet", "DeepConvNet"])
def test_raw_jax_computes_the_same_network(script, name):
    import benchmark_card as card

    row = next(row for row in card.rows(name == "SimpleConvNet") if row.name == name)
    net = row.net(None)

    @jax.jit
    def outputs(key, x):
        params = net.init(key, row.sizes)
        return net.apply(params, x, False, None)[0], card.forward(net, params.weights, x, None)

    x = jnp.asarray(np.random.default_rng(0).random((3, *row.sizes)))
    by_hand, raw = outputs(jax.random.key(0), x)
    np.testing.assert_allclose(by_hand, raw, rtol=1e-5, atol=1e-12)
