"""`purenet sweep | train | predict` on one's own table and one's own trial function."""

import csv
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import purenet as pn
from purenet import cli, sweep
from purenet._commands import jobs
from purenet._commands.standardised import standardised
from purenet.core.subset import Subset

TRIAL = """
import numpy as np
import purenet as pn
from purenet import sweep

def trial(hyper):
    return pn.Trainable(
        lambda key: hyper["rate"], lambda s, data: (s / 2, {}), lambda s, data: {"accuracy": s}
    )

def classes(hyper):
    return pn.supervised(pn.mlp(), (4, 3, 2), pn.sgd(hyper["rate"]), pn.softmax_cross_entropy, 8)

def network(hyper):
    return pn.supervised(pn.dense(1), 2, pn.sgd(hyper["rate"]), pn.mean_squared_error, batch_size=4)

def failing(hyper):
    raise ValueError("no such rate")

def surprised(hyper):
    return hyper["momentum"]

space = {"rate": sweep.loguniform(0.1, 1.0)}
rows = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
number = 3

def data():
    return rows, rows
"""
PLAIN = ["sweep", "mine:trial", "--space", "mine:space", "--trials", "3", "--epochs", "2"]
OWN = [*PLAIN, "--data", "mine:data"]
TABLE = ["--data", "table.csv", "--target", "kind"]


@pytest.fixture
def main(monkeypatch, tmp_path):
    """The command in this process, in a folder of its own that has mine.py, without pictures."""
    monkeypatch.setattr(cli, "use_cpu_cores", lambda: None)
    for name in ("plot", "plot_map", "plot_slices"):
        monkeypatch.setattr(sweep.Result, name, lambda *_: None)
    monkeypatch.setattr(jobs, "_HIDDEN", (3,))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != ""])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(TRIAL)
    yield lambda *arguments: cli.main([*map(str, arguments)])
    sys.modules.pop("mine", None)


def write(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def read(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def table(tmp_path):
    """Forty rows: a class that the numbers decide, a number that the words decide."""
    rng = np.random.default_rng(0)
    rows = [["size", "colour", "price", "kind"]]
    for i in range(40):
        size, colour = rng.normal(50, 9), ["red", "blue"][i % 2]
        kind = "large" if size > 50 else "small"
        rows.append([f"{size:.4f}", colour, 1000 + 500 * (i % 2), kind])
    write(tmp_path / "table.csv", rows)
    return rows


# one's own trial function
def test_a_sweep_of_ones_own_function_is_that_of_the_library(main, capsys):
    assert main(*OWN) == 0
    said = capsys.readouterr()
    assert "Best-1 (val acc:" in said.out
    assert "no model.npz: Result.network: the trial function's Trainable has no" in said.err
    mine = sys.modules["mine"]
    expected = sweep.run(mine.trial, mine.space, mine.data(), trials=3, epochs=2)
    assert sweep.load("sweep-results").table() == expected.table()


def test_it_is_resumed_by_its_folder_with_or_without_its_name(main, capsys):
    assert main(*OWN, "--out", "a") == 0
    assert main("sweep", "--resume", "a", "--trials", "5") == 0
    assert len(sweep.load("a")) == 5
    assert main("sweep", "mine:trial", "--resume", "a", "--trials", "6") == 0
    assert main("sweep", "mine:network", "--resume", "a") == 2
    assert "started with mine:trial" in capsys.readouterr().err


def test_folds_patience_and_a_grid_reach_the_sweep(main, capsys):
    options = ["--data", "mine:rows", "--folds", "2", "--patience", "1", "--search", "grid"]
    assert main(*PLAIN, *options) == 0
    result = sweep.load("sweep-results")
    assert (len(result), result.settings["folds"], result.settings["patience"]) == (6, 2, 1)
    assert set(result.status) == {"plateaued"} or result.epochs.max() <= 2


def test_one_network_of_ones_own_is_trained_and_saved(main, capsys):
    options = ["--data", "mine:data", "--epochs", "2", "--set", "rate=0.1"]
    assert main("train", "mine:network", *options, "--out", "net.npz") == 0
    _, sizes, params = pn.load_network("net.npz")
    mine = sys.modules["mine"]
    fit = pn.fit(mine.network({"rate": 0.1}), mine.data(), 2, jax.random.key(0))
    assert sizes == 2 and "2 epochs: " in capsys.readouterr().out
    np.testing.assert_array_equal(params.weights["w"], fit.state.params.weights["w"])
    assert main("predict", "net.npz", "--data", "mine.py") == 2
    assert "net.npz does not say which columns it takes" in capsys.readouterr().err


# a table
def test_the_networks_of_a_sweep_in_folds_predict_the_table(main, table, capsys):
    options = ["--folds", "2", "--trials", "2", "--epochs", "20", "--rate", "0.1", "0.3"]
    assert main("sweep", *TABLE, *options) == 0
    said = capsys.readouterr()
    assert "standardised by the training rows of each fold" in said.err
    assert "target kind: classification, 2 classes (large, small)" in said.err
    assert "columns: 2 numeric, 1 categorical; 4 inputs of a network" in said.err
    assert main("predict", "sweep-results/model.npz", "--data", "table.csv", "--out", "p.csv") == 0
    header, *rows = read("p.csv")
    assert header == ["kind", "P(large)", "P(small)"] and len(rows) == 40
    right = np.mean([row[0] == known[3] for row, known in zip(rows, table[1:], strict=True)])
    assert right > 0.8
    assert f"accuracy {right:.4g} on 40 rows with a known kind" in capsys.readouterr().err
    assert all(abs(float(row[1]) + float(row[2]) - 1) < 1e-4 for row in rows)
    # its folder knows the table and the folds
    assert main("sweep", "--resume", "sweep-results", "--trials", "3") == 0
    assert len(sweep.load("sweep-results")) == 6
    assert main("sweep", "--resume", "sweep-results", "--ignore", "size") == 2
    assert "but --ignore is size now" in capsys.readouterr().err.splitlines()[-1]


def test_a_fold_is_standardised_by_its_own_training_rows_and_saved_as_a_plain_network():
    rng, numeric = np.random.default_rng(0), np.array([True, True, False, True])
    x = rng.normal([3, -2, 0.5, 7], [5, 0.1, 0.2, 0], size=(12, 4)).astype("float32")
    t = rng.normal(size=(12, 1)).astype("float32")
    train = lambda net: pn.supervised(net, (4, 5, 1), pn.sgd(0.1), pn.mean_squared_error, 4)
    trainable = standardised(train, pn.mlp(), numeric)
    rows = np.array([1, 2, 4, 5, 7, 8, 10, 11])
    data = Subset((x, t), rows, np.array(0), (8,))
    state, metrics = trainable.epoch(trainable.init(jax.random.key(0)), data)
    own = x[rows]
    mean, scale = np.where(numeric, own.mean(0), 0), own.std(0)
    scale[2:] = 1  # words, and a constant
    plain = train(pn.mlp())
    first = plain.init(jax.random.key(0))
    last, expected = plain.epoch(first, (((own - mean) / scale).astype("float32"), t[rows]))
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)
    y = trainable.predict(state, x)
    np.testing.assert_allclose(y, plain.predict(last, (x - mean) / scale), rtol=1e-4, atol=1e-5)
    net, _ = trainable.network()
    np.testing.assert_allclose(y, pn.predict(net, state.params, x), rtol=1e-6)
    other = np.where(np.isin(np.arange(12), rows)[:, None], x, 1e6)  # rows that are held out
    again, _ = trainable.epoch(
        trainable.init(jax.random.key(0)), Subset((other, t), rows, np.array(0), (8,))
    )
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)


def test_ones_own_function_on_a_table_in_folds_with_gaps_and_a_time_limit(main, table, capsys):
    table[3][0] = table[4][1] = ""
    write("table.csv", table)
    own = ["sweep", "mine:classes", "--space", "mine:space", *TABLE, "--trials", "2"]
    options = ["--folds", "2", "--patience", "2", "--epochs", "9", "--seconds", "600", "--report"]
    assert main(*own, *options) == 2
    assert "missing cells in 2 of 40 rows (by column: 'size' 1, 'colour' 1)" in (
        capsys.readouterr().err
    )
    assert main(*own, *options, "--missing", "fill") == 0
    said = capsys.readouterr()
    assert "40 rows, standardised by all 40 rows\n" in said.err
    assert "columns: 2 numeric, 1 categorical; 4 inputs of a network" in said.err
    said = " ".join(said.out.split())
    assert "4 trials (2 points x 2 runs" in said and "ranked by their best epoch" in said
    assert main("predict", "sweep-results/model.npz", "--data", "table.csv", "--out", "p.csv") == 0
    assert read("p.csv")[0] == ["kind", "P(large)", "P(small)"]
    # the time is up before the first block
    assert main(*own, *options[:-3], "--seconds", "1e-9", "--missing", "drop", "--out", "b") == 2
    assert "38 rows (2 with missing cells left out)" in (err := capsys.readouterr().err)
    assert err.splitlines()[-1].endswith(
        "no trial has been trained yet, see b; increase --seconds."
    )
    assert main("sweep", "--resume", "b", "--no-report") == 0
    assert (tmp := Path("b")).joinpath("model.npz").exists()
    assert not (tmp / "report.html").exists() and "report.html" not in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_an_error_at_the_start(main, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert main(*OWN, "--report") == 2
    assert "--report: the page needs plotly" in capsys.readouterr().err
    assert not Path("sweep-results").exists()


@pytest.fixture
def priced(main, table, capsys):
    """A network for the price, from a table with gaps."""
    gaps = [[*row] for row in table]
    gaps[3][0], gaps[4][1], gaps[5][2] = "", "NA", "?"
    write("gaps.csv", gaps)
    options = ["--target", "price", "--task", "regression", "--missing", "fill", "--epochs", "60"]
    assert main("train", "--data", "gaps.csv", *options, "--rate", "0.05", "--out", "m.npz") == 0
    assert "39 rows (1 with missing cells left out), standardised by the 31 training rows" in (
        capsys.readouterr().err
    )
    return "m.npz"


def test_a_regression_predicts_in_the_units_of_the_table_also_where_cells_are_missing(
    priced, main, capsys
):
    write("new.csv", [["kind", "size", "colour"], ["small", "", "red"], ["large", "61", "blue"]])
    assert main("predict", priced, "--data", "new.csv") == 0
    said = capsys.readouterr()
    name, *values = said.out.split()
    assert name == "price" and said.err == ""
    np.testing.assert_allclose(np.array(values, float), [1000, 1500], atol=150)


def test_the_encoding_is_that_of_the_training_rows(main, table):
    assert main("train", *TABLE, "--epochs", "1", "--ignore", "price", "colour") == 0
    (column,) = pn.checkpoint.load_metadata("model.npz")["table"]["columns"]
    rows = np.array([float(row[0]) for row in table[1:]])
    training, _ = pn.data.split(jax.random.key(0), rows, validation=0.2)
    assert column["name"] == "size" and len(training) == 32
    np.testing.assert_allclose([column["mean"], column["scale"]], [training.mean(), training.std()])


UNLIKE = [
    ([["size", "colour"], ["1", "red"]], "new.csv has no column 'kind'"),
    ([["size", "colour", "kind"], ["big", "red", "small"]],
     "new.csv, line 2, column 'size': expected a number as in training, found 'big'"),
    ([["size", "colour", "kind"], ["1", "green", "small"]],
     "line 2, column 'colour': 'green' did not occur in training; known are 'blue', 'red'"),
    ([["size", "colour", "kind"], ["1"]], "new.csv, line 2: expected 3 cells"),
    ([["size", "colour", "kind"]], "new.csv has no rows"),
    ([["size", "size"], ["1", "2"]], "several columns ['size']"),
    ([], "new.csv is empty"),
]  # fmt: skip


def test_a_table_unlike_that_of_the_training_is_refused(priced, main, capsys):
    for rows, message in UNLIKE:
        write("new.csv", rows)
        assert main("predict", priced, "--data", "new.csv") == 2
        assert message in capsys.readouterr().err


def test_a_network_without_missing_cells_in_its_training_refuses_them(main, table, capsys):
    assert main("train", *TABLE, "--epochs", "1") == 0
    write("new.csv", [["size", "colour", "price"], ["1", "red", ""]])
    capsys.readouterr()
    assert main("predict", "model.npz", "--data", "new.csv") == 2
    assert "line 2: the cell of column 'price' is missing; train with --missing fill" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("content, message", [
    (None, "there is no file m.npz"),
    (b"PK\3\4 no network", "m.npz"),
])  # fmt: skip
def test_a_file_that_is_no_model_is_named(content, message, main, table, tmp_path, capsys):
    if content is not None:
        (tmp_path / "m.npz").write_bytes(content)
    assert main("predict", "m.npz", "--data", "table.csv") == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_a_damaged_description_of_columns_is_named(main, table, capsys):
    net = pn.dense(2)
    params = net.init(jax.random.key(0), 3)
    pn.save_network("m.npz", net, 3, params, metadata={"table": {"columns": 3}})
    assert main("predict", "m.npz", "--data", "table.csv") == 2
    assert "m.npz: its description of columns is damaged" in capsys.readouterr().err


# mistakes
SWEEP = ["sweep", *TABLE]
MISTAKES = {
    "no file": (["sweep", "--data", "no.csv", "--target", "kind"], "no.csv"),
    "no target": (["sweep", "--data", "table.csv"], "--data is table.csv, but digits, mnist, or"),
    "no such target": ([*SWEEP[:-1], "prize"], "table.csv has no column 'prize'; it has 'size'"),
    "no such column": ([*SWEEP, "--ignore", "id"], "has no column 'id'"),
    "ignored target": ([*SWEEP, "--ignore", "kind"], "the target 'kind' is in --ignore"),
    "nothing left": ([*SWEEP, "--ignore", "size", "colour", "price"], "no column besides"),
    "no regression": ([*SWEEP, "--task", "regression"], "holds 'large', but a regression"),
    "no table": (["sweep", "--missing", "drop"], "--missing needs a table"),
    "one fold": ([*SWEEP, "--folds", "1"], "--folds is 1"),
    "no patience": ([*SWEEP, "--patience", "-1"], "--patience is -1"),
    "a module as a table": (["sweep", "--data", "mine:data", "--target", "kind"], "pass the file"),
    "a space alone": (["sweep", "--space", "mine:space"], "needs a trial function of yours"),
    "no space": (["sweep", "mine:trial", "--data", "mine:data"], "--space is , but a module and"),
    "no data": (PLAIN, "--data is digits, but my_module:data"),
    "no module": ([*OWN[:1], "yours:trial", *OWN[2:]], "there is no module yours in "),
    "no package": ([*OWN[:1], "mine.deep:trial", *OWN[2:]], "there is no module mine.deep in "),
    "no name": ([*OWN[:1], "mine:trail", *OWN[2:]], "no 'trail'; did you mean mine:trial?"),
    "no function": ([*OWN[:1], "mine:number", *OWN[2:]], "mine:number is a int, but a function"),
    "no reference": ([*OWN[:1], "mine.trial", *OWN[2:]], "such as my_module:name"),
    "a rate": ([*OWN, "--rate", "0.1", "1"], "--rate is for the networks of purenet; mine:trial"),
    "its own error": ([*OWN[:1], "mine:failing", *OWN[2:]], r"no such rate \(mine.py, line 18\)"),
    "nothing to train": (["train"], "nothing to train on: pass --data"),
    "a setting": (["train", *TABLE, "--set", "rate=1"], "--set is for a trial function"),
    "half a setting": (["train", "mine:network", "--data", "mine:data", "--set", "rate"],
                       "rate is not NAME=VALUE"),
    "no network": (["train", "mine:trial", "--data", "mine:data", "--set", "rate=1"],
                   r"without `network\(\)`"),
    "no format": (["train", *TABLE, "--out", "m.pickle"], "expected .npz or .safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("arguments, message", MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line_and_leave_no_file(arguments, message, main, table, tmp_path, capsys):
    before = sorted(path for path in tmp_path.iterdir() if path.name != "__pycache__")
    assert main(*arguments) == 2
    error = capsys.readouterr().err.splitlines()
    assert re.search(message, error[-1]) and len(error) <= 4, error
    assert sorted(path for path in tmp_path.iterdir() if path.name != "__pycache__") == before


def test_an_unexpected_error_of_ones_own_keeps_its_traceback(main, tmp_path):
    with pytest.raises(KeyError, match="momentum"):
        main(*OWN[:1], "mine:surprised", *OWN[2:])
    assert not (tmp_path / "sweep-results").exists()


@pytest.mark.parametrize("column, cells, message", [
    ("age", ["41", "38", "old", "29"], "column 'age' holds numbers, but in line 4 'old'"),
    ("name", [f"n{i}" for i in range(120)], "120 different words, .* --ignore name"),
    ("age", ["41", "", "NA", "29"], r"missing cells in 2 of 4 rows \(by column: 'age' 2\)"),
    ("age", ["", "", "", ""], "missing cells in 4 of 4"),
])  # fmt: skip
def test_a_column_that_is_neither_is_named_with_what_to_do(column, cells, message, main, capsys):
    rows = [[cell, i % 2] for i, cell in enumerate(cells)]
    write("a.csv", [[column, "kind"], *rows])
    assert main("train", "--data", "a.csv", "--target", "kind") == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("cells, options, classes", [
    (["1", "0", "1.0", "1"], {}, ("0", "1")),  # whole numbers, however written, in order
    ([str(i % 12) for i in range(40)], {}, tuple(map(str, range(12)))),
    ([str(i) for i in range(40)], {}, ()),
    ([str(i) for i in range(40)], {"task": "classification"}, tuple(map(str, range(40)))),
    (["0.5", "1.5"], {}, ()),
    (["yes", "no"], {}, ("no", "yes")),
    (["1", "0"], {"task": "regression"}, ()),
])  # fmt: skip
def test_a_target_is_classes_or_numbers(cells, options, classes):
    from purenet.data.tables import Table, learn_encoding

    table = Table("a.csv", {"x": ["1"] * len(cells), "t": cells}, [*range(len(cells))])
    encoding, _ = learn_encoding(table, "t", **options)
    assert encoding.classes == classes
    assert encoding.t(table).shape == ((len(cells),) if classes else (len(cells), 1))


def test_a_table_whose_target_does_not_vary_is_refused(main, capsys):
    write("a.csv", [["x", "t"], *[[i, "same"] for i in range(9)]])
    assert main("sweep", "--data", "a.csv", "--target", "t") == 2
    assert "the target 't' is same in every row" in capsys.readouterr().err
