"""What the files of a sweep's folder say, value by value: written, read back and refused."""

import functools
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import purenet as pn
from purenet import sweep
from purenet.core import json_text
from purenet.core.tree import fingerprint
from purenet.sweep.engine.records import TrialCheckpoint
from purenet.sweep.space import schema
from purenet.sweep.space.distributions import Choice
from purenet.sweep.storage import folder, reading, records


# spaces
@pytest.mark.parametrize("leaf, described", [
    (sweep.uniform(0.5, 2.0), {"uniform": [0.5, 2.0]}),
    (sweep.loguniform(1e-3, 1.0), {"loguniform": [1e-3, 1.0]}),
    (sweep.normal(1.0, 2.0), {"normal": [1.0, 2.0]}),
    (sweep.randint(1, 9), {"randint": [1, 9]}),
    (sweep.choice([pn.relu, "a", 3]), {"choice": ["relu", "a", 3]}),
    (sweep.choice([(3, 3), (5, 5)]), {"choice": [[3, 3], [5, 5]]}),
    (np.float32(0.5), 0.5), (np.int64(3), 3), (None, None), ("text", "text"), (True, True),
    ((1, 2), [1, 2]), (pn.tanh, "tanh"),
])  # fmt: skip
def test_a_space_is_described_in_plain_values(leaf, described):
    found = schema.describe_leaf(leaf)
    assert found == described and type(found) is type(described)
    assert json.loads(json_text.json_bytes(found)) == described


def test_what_has_no_description_is_its_text_without_its_address():
    text = schema.describe_leaf(object())
    assert text == "<object object>"  # the address would differ in every process


def test_a_function_without_a_name_is_its_text():
    partial = functools.partial(pn.leaky_relu, slope=0.1)
    assert json_text.plain(partial) is partial
    assert schema.describe_leaf(partial) == "functools.partial(<function leaky_relu>, slope=0.1)"


@pytest.mark.parametrize("leaf", [
    sweep.uniform(0.5, 2.0), sweep.loguniform(1e-3, 1.0), sweep.normal(1.0, 2.0),
    sweep.randint(1, 9), sweep.choice(["a", "b"]), 3, 0.5, None, "text", True,
])  # fmt: skip
def test_a_described_space_is_read_back(leaf):
    assert (
        schema.distribution_of(json.loads(json_text.json_bytes(schema.describe_leaf(leaf)))) == leaf
    )


def test_lists_among_the_choices_are_read_back():
    assert schema.distribution_of({"choice": [[1, 2], 3]}) == Choice(([1, 2], 3))


@pytest.mark.parametrize("described, message", [
    ({}, "a name of a distribution with a list"),
    ({"uniform": [0, 1], "choice": [1]}, "a name of a distribution with a list"),
    ({"uniform": 3}, "a name of a distribution with a list"),
    ({"eval": [1]}, "'eval' is not a distribution"),
    ({"choice": []}, "a choice has values"),
    ({"choice": [{}]}, "a choice has values"),
    ([{}], "a value is expected"),
    ([1, [2, {"a": 1}]], "a value is expected"),
    ({"loguniform": [-1, 1]}, "loguniform"),
])  # fmt: skip
def test_what_describes_no_space_is_refused(described, message):
    with pytest.raises(ValueError, match=message):
        schema.distribution_of(described)


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


def test_values_may_be_lists_in_lists_as_deep_as_32():
    assert schema.is_value(nested(32)) and not schema.is_value(nested(33))
    assert schema.is_value([1, ["a", None], []]) and not schema.is_value([1, [{}]])


# JSON
def test_json_is_strict_and_numbers_that_are_not_finite_are_null():
    content = {"a": [np.nan, np.inf, np.float32(2)], "b": (1, True, None), "c": pn.relu,
               "d": {"e": -np.inf, "f": 1 + 2j}}  # fmt: skip
    line = json_text.json_bytes(content)
    assert line.endswith(b"}\n") and line.count(b"\n") == 1
    assert json.loads(line) == {"a": [None, None, 2.0], "b": [1, True, None], "c": "relu",
                                "d": {"e": None, "f": "(1+2j)"}}  # fmt: skip
    assert json_text.json_bytes({"a": 1}, indent=2) == b'{\n  "a": 1\n}\n'
    with pytest.raises(ValueError, match="NaN is not JSON"):
        json_text.strict_json("[NaN]")


REPORT = {"seconds": 1.5, "finished": True, "plan": None, "programs": []}


@pytest.mark.parametrize("change", [
    {}, {"seconds": 0}, {"finished": False}, {"plan": {"seconds": 1}}, {"programs": [{}]},
])  # fmt: skip
def test_a_report_is_read(tmp_path, change):
    (tmp_path / "report.json").write_bytes(json_text.json_bytes({**REPORT, **change}))
    assert reading.read_report(tmp_path / "report.json") == {**REPORT, **change}


@pytest.mark.parametrize("change", [
    {"seconds": -1}, {"seconds": "1"}, {"seconds": None}, {"seconds": 10**301}, {"finished": 1},
    {"finished": None}, {"plan": [1]}, {"programs": {}}, {"programs": None},
])  # fmt: skip
def test_a_report_of_other_kinds_is_refused(tmp_path, change):
    path = tmp_path / "report.json"
    path.write_bytes(json_text.json_bytes({**REPORT, **change}))
    with pytest.raises(ValueError, match=r"report\.json is damaged: seconds, finished, plan and"):
        reading.read_report(path)


@pytest.mark.parametrize("part", REPORT)
def test_a_report_has_all_its_parts(tmp_path, part):
    path = tmp_path / "report.json"
    path.write_bytes(json_text.json_bytes({k: v for k, v in REPORT.items() if k != part}))
    with pytest.raises(ValueError, match=r"report\.json is damaged"):
        reading.read_report(path)


def test_a_file_that_holds_no_object_is_named(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"a\.json is damaged: it holds list, not an object"):
        json_text.read_json(tmp_path / "a.json")


# arrays
KNOWN = {
    "epochs": np.array([0, 3, 2]),
    "alive": np.array([True, True, False]),
    "ended": np.zeros(3, bool),
    "validation loss": np.zeros((3, 3)),
    "train loss": np.zeros((3, 3), np.float32),
    "hyper rate": np.zeros(3),
    "hyper depth": np.zeros(3, int),
    "lineage parents": np.zeros((5, 5, 5), bool),  # a population's own, looked at elsewhere
}


def check(changes, rows=3):
    known = {"rows": np.array(rows), **KNOWN, **changes}
    known = {name: a for name, a in known.items() if a is not None}
    return reading.check_known(Path("curves.npz"), known, trials=3, runs=1, epochs=3, metric="loss")


def test_arrays_of_a_sweep_are_accepted_also_with_rows_to_spare():
    for rows in (3, 2, 1):
        assert check({}, rows) == rows


@pytest.mark.parametrize("name, array, message", [
    ("rows", None, "1 to 3"),
    ("rows", np.array(0), "1 to 3"),
    ("rows", np.array(4), "1 to 3"),
    ("rows", np.array([3]), "1 to 3"),
    ("rows", np.array(3.0), "1 to 3"),
    ("epochs", None, "missing"),
    ("alive", None, "missing"),
    ("ended", None, "missing"),
    ("validation loss", None, "missing"),
    ("epochs", np.array([0, 4, 2]), "numbers outside 0 to 3"),
    ("epochs", np.array([-1, 3, 2]), "numbers outside 0 to 3"),
    ("epochs", np.zeros(3), r"the shape \(3,\) of float64"),
    ("epochs", np.zeros((3, 1), int), r"the shape \(3, 1\)"),
    ("alive", np.ones(3, int), r"the shape \(3,\) of int64"),
    ("alive", np.ones(2, bool), r"the shape \(2,\) of bool, but there are 3 trials"),
    ("hyper rate", np.zeros((3, 3)), r"the shape \(3, 3\)"),
    ("hyper rate", np.array(["a"] * 3), "the shape"),
    ("train loss", np.zeros((2, 3)), "but there are 3 trials"),
    ("train loss", np.zeros(3), "but there are 3 trials"),
    ("train loss", np.zeros((3, 2)), "of float64 for 3 epochs"),
    ("train loss", np.zeros((3, 4)), "of float64 for 3 epochs"),
    ("train loss", np.zeros((3, 3), int), "of int64 for 3 epochs"),
])  # fmt: skip
def test_arrays_that_are_of_no_such_sweep_are_refused_by_name(name, array, message):
    with pytest.raises(ValueError, match=rf"curves\.npz is damaged: '{name}' .*{message}"):
        check({name: array})


def test_an_array_of_the_folder_has_to_fit(tmp_path):
    mine = np.zeros((3, 2), np.float32)
    fits = {
        "a": np.ones((3, 2), np.float32),
        "b": np.ones((3, 3), np.float32),
        "c": np.ones((3, 2)),
    }
    assert reading.fitting(tmp_path / "curves.npz", fits, "a", mine) is fits["a"]
    for name, what in {
        "b": r"is float32 \(3, 3\)",
        "c": r"is float64 \(3, 2\)",
        "d": "is missing",
    }.items():
        with pytest.raises(ValueError, match=rf"'{name}' {what}, but float32 \(3, 2\)"):
            reading.fitting(tmp_path / "curves.npz", fits, name, mine)


# records
def record(i):
    state = [np.full((2,), i, np.float32), np.asarray(jnp.bfloat16(i))]
    return TrialCheckpoint((np.float64(i), np.int32(-i)), 3 + i, state)


def test_records_are_packed_and_read_back_group_by_group():
    groups = [{4: record(4), 1: record(1)}, {}, {0: record(0)}]
    packed = records.pack_records(groups)
    assert packed["0 rows"].tolist() == [4, 1] and packed["0 epochs"].tolist() == [7, 4]
    assert packed["0 state 1"].dtype == np.uint16  # bfloat16 has no name in NumPy: its bits
    assert not [name for name in packed if name.startswith("1 ")]
    for g, group in enumerate(groups):
        found = records.unpack_records(packed, g)
        assert list(found) == list(group)
        for row, back in found.items():
            assert back.epochs == group[row].epochs and back.numbers == group[row].numbers
            np.testing.assert_array_equal(back.state[0], group[row].state[0])
            assert back.state[1] == group[row].state[1].view(np.uint16)


def test_records_need_neither_numbers_nor_a_state():
    bare = {2: TrialCheckpoint((), 5, []), 3: TrialCheckpoint((), 6, [])}
    found = records.unpack_records(records.pack_records([bare]), 0)
    assert found == bare


@pytest.mark.parametrize("name, change", [
    ("0 rows", lambda a: a[:1]),
    ("0 epochs", lambda a: a[:1]),
    ("0 numbers 0", lambda a: a[:1]),
    ("0 state 1", lambda a: a[:1]),
    ("0 rows", lambda a: a * 0),  # one row twice
    ("0 rows", lambda a: a * 1.0),
    ("0 epochs", lambda a: a * 1.0),
    ("0 epochs", lambda a: a[:, None]),
])  # fmt: skip
def test_records_that_do_not_belong_together_are_refused(name, change):
    packed = records.pack_records([{4: record(4), 1: record(1)}])
    with pytest.raises(ValueError, match="the rows of group 0 do not belong together"):
        records.unpack_records({**packed, name: change(packed[name])}, 0)


# data
def test_data_are_told_apart_by_every_number_shape_dtype_and_name():
    data = {"x": np.arange(6.0).reshape(2, 3), "n": np.zeros(0)}
    same = {"x": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "n": np.zeros(0)}
    assert fingerprint(data) == fingerprint(same)
    assert len(fingerprint(data)) == 32
    others = [
        {**data, "x": data["x"] + np.eye(2, 3) * 1e-12},
        {**data, "x": data["x"].reshape(3, 2)},
        {**data, "x": data["x"].view(np.int64)},
        {"y": data["x"], "n": data["n"]},
        {**data, "n": np.zeros((0, 2))},
    ]
    assert len({fingerprint(d) for d in (data, *others)}) == 6


def test_settings_of_a_new_folder_say_their_format(tmp_path):
    folder.Store(tmp_path, {"trials": 3}).close()
    content = json.loads((tmp_path / "settings.json").read_text())
    assert content["format"] == 3 and content["settings"] == {"trials": 3}
    assert reading.read_settings(tmp_path) == content  # and whose they are
    for wrong in ({"format": 2}, {"format": 4}):
        (tmp_path / "settings.json").write_text(json.dumps({**content, **wrong}))
        with pytest.raises(ValueError, match="has the format"):
            reading.read_settings(tmp_path)


def test_a_setting_that_only_one_side_has_is_a_difference(tmp_path):
    folder.Store(tmp_path, {"trials": 3, "more": 1}).close()
    for asked, message in (
        ({"trials": 3}, "more: was 1, is None now"),
        ({"trials": 3, "more": 1, "new": 2}, "new: was None, is 2 now"),
        ({"trials": 4, "more": 2}, "(?s)trials: was 3, is 4 now.*more: was 1, is 2 now"),
    ):
        with pytest.raises(ValueError, match=message):
            folder.Store(tmp_path, asked)
    again = folder.Store(tmp_path, {"trials": np.int64(3), "more": 1})
    assert again.resumes
    again.close()
