"""What `scripts/compile_for` reads from a compiled program, and what it says about it."""

import importlib.machinery
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    loader = importlib.machinery.SourceFileLoader("compile_for", str(SCRIPTS / "compile_for"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("compile_for", loader))
    loader.exec_module(module)
    return module


PROGRAM = """
%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[4]{0} get-tuple-element(%p), index=1
  %y = f32[4]{0} fusion(%x, %x), kind=kLoop, calls=%inner, backend_config={"estimated_cycles":"7"}
  ROOT %t = (s32[], f32[4]{0}) tuple(%i, %y)
}

%end (p: (s32[], f32[4])) -> pred[] {
  %p = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %b = bf16[2,4]{1,0} copy(%a), metadata={op_name="jit(f)/where"}
  %c = f32[4]{0} all-reduce(%a), to_apply=%add
  %s = (s32[], f32[4]{0}) tuple(%a, %a)
  %w = (s32[], f32[4]{0}) while(%s), condition=%end, body=%body
  ROOT %r = f32[4]{0} get-tuple-element(%w), index=1
}
"""


def test_a_loop_counts_as_often_as_it_turns_and_every_operand_is_read(script):
    from compiled_text import work

    found = work(PROGRAM)
    # copy: 16 + 16 bytes, all-reduce: 16 + 16, five turns of 3 * 16
    assert found[:4] == (7, 32 + 32 + 5 * 48, 35, 1)
    assert found.largest[0] == (35, "fusion y")
    assert work(PROGRAM.replace("direction=LT", "direction=EQ")).kernels == 3  # turns not known


def test_a_real_program_is_read_too(script):
    from compiled_text import work

    turns = lambda n: jax.jit(lambda x: jax.lax.fori_loop(0, n, lambda i, x: jnp.sin(x @ x), x))
    three, six = (work(turns(n).lower(jnp.ones((64, 64))).compile().as_text()) for n in (3, 6))
    assert 0 < three.kernels < six.kernels and three.bytes < six.bytes
    assert three.collectives == 0


def test_more_than_a_tenth_above_the_table_is_told_and_so_are_collectives(script):
    found = {"kernels": 111, "bytes": 109, "collectives": 0}
    known = {"kernels": 100, "bytes": 100, "collectives": 0}
    assert script.compared("E9", found, known) == ["E9: kernels 111 in place of 100"]
    (told,) = script.compared("E9", {**known, "collectives": 2}, {})
    assert told == "E9: 2 collectives, but lanes do not communicate"


def test_without_the_compiler_it_says_what_to_install(script, monkeypatch, capsys):
    assert not script.installed("nothing.of.this.name") and script.installed("json")
    monkeypatch.setattr(script, "installed", lambda package: False)
    assert script.main(["v5e"]) == 0
    assert (
        "skipped, the compiler is not installed; pip install 'jax[tpu]'" in capsys.readouterr()[0]
    )


def test_every_program_is_in_the_tables(script):
    from compiled_programs import PROGRAMS

    for device, kinds in script.COUNTED.items():
        table = json.loads((SCRIPTS / "compiled" / f"{device}.json").read_text())
        assert list(table) == list(PROGRAMS)
        assert all(set(row) == {*kinds, "collectives"} for row in table.values())
