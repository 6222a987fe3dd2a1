"""Texts of somebody else's folder do nothing to a terminal or a spreadsheet."""

import csv
import json

import numpy as np
import pytest

import purenet as pn
from purenet import sweep

TEXTS = ["\x1b[2Jgone", "=cmd|' /C calc'!A0", "@SUM(1)", "\tx", "a\ud800b", "line\nline", "plain"]
DATA = ((np.ones(1),), (np.zeros(1),))


def still(hyper):
    return pn.Trainable(
        init=lambda key: {"x": 1.5 * len(hyper["kind\x1b[1m"])},
        epoch=lambda state, data: (state, {}),
        evaluate=lambda state, data: {"loss": -state["x"]},
    )


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strange")
    space = {"kind\x1b[1m": sweep.choice(TEXTS), "=name": -0.5}
    sweep.run(still, space, DATA, epochs=1, search=sweep.grid(), path=folder, devices=1)
    result = sweep.load(folder)
    assert list(result.hyper["kind\x1b[1m"]) == TEXTS
    return result


def test_a_table_shows_control_characters_as_escapes(loaded):
    table = loaded.table()
    lines = table.splitlines()
    assert len(lines) == 1 + len(TEXTS) and all(map(str.isprintable, lines))
    assert r"\x1b[2Jgone" in table and r"a\ud800b" in table and r"kind\x1b[1m" in table
    assert r"line\nline" in table and "plain" in table
    table.encode()


def test_a_trial_is_one_printable_line(loaded):
    assert all(str(trial).isprintable() for trial in loaded.best(len(TEXTS)))


def test_csv_holds_no_formulas_and_numbers_stay_numbers(loaded, tmp_path):
    loaded.to_csv(tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    kinds = [row[header.index("kind\x1b[1m")] for row in rows]
    assert kinds[1:4] == ["'" + text for text in TEXTS[1:4]]
    assert kinds[4] == r"a\ud800b" and kinds[6] == "plain"
    assert {row[header.index("'=name")] for row in rows} == {"-0.5"}


def test_the_settings_of_another_sweep_are_said_in_printable_lines(tmp_path):
    space = {"kind\x1b[1m": sweep.choice(["a", "b"])}
    sweep.run(still, space, DATA, 2, 1, path=tmp_path, devices=1)
    content = json.loads((tmp_path / "settings.json").read_text())
    content["settings"] |= {"\x1b[2J": "\x1b[2J"}
    (tmp_path / "settings.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds another sweep") as caught:
        sweep.run(still, space, DATA, 2, 1, path=tmp_path, devices=1)
    assert all(map(str.isprintable, str(caught.value).splitlines()))
