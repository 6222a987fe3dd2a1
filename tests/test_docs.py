"""Every public name explains itself: an example, its errors, its source, its types."""

import ast
import importlib
import inspect
import re
import sys
import textwrap
import tomllib
from dataclasses import is_dataclass
from pathlib import Path
from pkgutil import walk_packages

import pytest

import purenet as pn
from purenet.core import validate
from purenet.nn import base

MODULES = (
    pn, pn.initializers, pn.metrics, pn.schedules, pn.data, pn.ops, pn.sweep, pn.plots,
    pn.checkpoint, pn.gradcheck,
)  # fmt: skip
# where a reader expects to be told which paper or textbook a formula is from
SOURCED = ("initializers", "schedules", "losses", "metrics", "optimizers")


def public():
    """(name, object): what the package re-exports or lists for later, and what its modules hold."""
    found = {}
    for module in MODULES:
        short = module.__name__.removeprefix("purenet").lstrip(".")
        for name in dir(module):
            value = getattr(module, name)
            if name.startswith("_") or inspect.ismodule(value) or not callable(value):
                continue
            origin = getattr(value, "__module__", "") or ""
            ours = origin.startswith("purenet")
            # a module shows what it defines; pn, ops and sweep what they re-export too
            if ours and (origin == module.__name__ or module in (pn, pn.ops, pn.sweep)):
                found.setdefault(id(value), (".".join(filter(None, [short, name])), value))
    return dict(sorted(found.values(), key=lambda pair: pair[0]))


PUBLIC = public()


def plain(value):
    """What was written, under a rule by hand."""
    return getattr(value, "plain", value)


def doc(value) -> str:
    return inspect.getdoc(plain(value)) or ""


def is_data(value) -> bool:
    """Fields and their meaning; what makes one has the example."""
    return inspect.isclass(value) and (hasattr(value, "_fields") or is_dataclass(value))


def functions(value):
    """The function, or the class and its methods."""
    value = plain(value)
    return inspect.unwrap(value) if inspect.isroutine(value) else value


def is_written_out(value) -> bool:
    """Whether it is a function with source of its own; an instance such as a Layer is not."""
    return inspect.isfunction(functions(value))


CHECKERS = {name for name, f in vars(validate).items() if callable(f) and not name.startswith("_")}
CHECKERS = (CHECKERS - {"is_number"}) | {base.shape.__name__}


def can_raise(value) -> bool:
    """Whether its own source, without functions within it, raises or calls a check."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(functions(value)))).body[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called in CHECKERS and isinstance(node.func, ast.Name):
                return True
    return False


def parameters(value):
    return [name for name in inspect.signature(plain(value)).parameters if name != "key"]


def file_of(value):
    return sys.modules[plain(value).__module__]


def around(value) -> str:
    """What its own docstring says, that of its file, and those of the functions it refers to: a
    convention that many functions share is explained once."""
    text = doc(value)
    others = {name.rpartition(".")[2]: other for name, other in PUBLIC.items()}
    referred = [doc(others[word]) for word in re.findall(r"`(\w+)`", text) if word in others]
    return "\n".join([text, inspect.getdoc(file_of(value)) or "", *referred])


@pytest.mark.parametrize("name", PUBLIC)
def test_it_has_a_docstring(name):
    assert doc(PUBLIC[name]).partition("\n\n")[0].endswith((".", ":", ")", "`")), (
        f"{name}: no docstring"
    )


@pytest.mark.parametrize("name", [n for n, v in PUBLIC.items() if not is_data(v)])
def test_it_has_an_example(name):
    value = PUBLIC[name]
    texts = [doc(value)]
    if inspect.isclass(value):  # an example of a method shows the class
        texts += [inspect.getdoc(member) or "" for member in vars(value).values()]
    assert any(">>> " in text for text in texts), f"{name} has no example"


@pytest.mark.parametrize(
    "name", [n for n, v in PUBLIC.items() if is_written_out(v) and can_raise(v)]
)
def test_it_says_what_it_raises(name):
    assert re.search(r"\bRaises?\b", doc(PUBLIC[name])), f"{name} does not say what it raises"


@pytest.mark.parametrize("name", [n for n, v in PUBLIC.items() if is_written_out(v)])
def test_it_mentions_its_parameters(name):
    text = around(PUBLIC[name])
    prose = "\n".join(line for line in text.splitlines() if ">>>" not in line)
    mentioned = lambda p: re.search(rf"(?<![a-z]){re.escape(p)}(?![a-z])", prose)
    missing = [p for p in parameters(PUBLIC[name]) if not mentioned(p)]
    assert not missing, f"{name} does not mention {', '.join(missing)}"


def sourced(name):
    value = PUBLIC[name]
    place, _, file = (getattr(plain(value), "__module__", "") or "").rpartition(".")
    if not is_written_out(value) or place not in ("purenet.nn", "purenet.optim"):
        return False
    # a layer without a gradient of its own has no formula
    return file in SOURCED or "hand_vjp" in inspect.getsource(file_of(value))


@pytest.mark.parametrize("name", list(filter(sourced, PUBLIC)))
def test_it_says_where_it_comes_from(name):
    value, text = PUBLIC[name], doc(PUBLIC[name])
    if (
        file_of(value).__name__ != "purenet.optim.optimizers"
    ):  # of which every one has a paper of its own
        text = inspect.getsource(file_of(value))
    found = re.search(r"Source:|\([^()]*\b(19|20)\d\d\b[^()]*\)|, (19|20)\d\d", text)
    assert found, f"{name} names no source"


def written(module):
    """(name, function) of the functions of a module and of the methods of its classes, without
    those that are private."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if not inspect.isclass(value):
            if callable(value):
                yield name, value
            continue
        for part, member in vars(value).items():
            member = getattr(member, "fget", getattr(member, "__func__", member))
            shown = part == "__init__" or not part.startswith("_")
            if shown and inspect.isfunction(member) and member.__module__ == module.__name__:
                yield f"{name}.{part}", member


def without_annotation(name, f):
    signature = inspect.signature(f)
    unsaid = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    if not name.endswith(".__init__") and signature.return_annotation is signature.empty:
        unsaid.append("return")
    return [f"{name}: {what}" for what in unsaid if what != "self"]


@pytest.mark.parametrize("module", [info.name for info in walk_packages(pn.__path__, "purenet.")])
def test_its_functions_say_which_types_they_take_and_give(module):
    functions = list(written(importlib.import_module(module)))
    assert not [text for pair in functions for text in without_annotation(*pair)]


def test_types_are_looked_for_everywhere():
    modules = [info.name for info in walk_packages(pn.__path__, "purenet.")]
    found = {id(f) for m in modules for _, f in written(importlib.import_module(m))}
    missed = [n for n, v in PUBLIC.items() if not inspect.isclass(v) and id(v) not in found]
    assert not missed
    assert without_annotation("f", lambda x, *args, **kwargs: x) == [
        "f: x", "f: args", "f: kwargs", "f: return",
    ]  # fmt: skip


def test_the_whole_package_is_type_checked():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    settings = project["tool"]["mypy"]
    assert settings["packages"] == ["purenet"] and settings["check_untyped_defs"]
    assert not {"exclude", "ignore_errors", "overrides"} & set(settings)
