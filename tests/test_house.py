"""The house: which folder may import which, and how large and how plain its parts may be.

Reads the sources, imports nothing. CONTRIBUTING.md says what the rule is for.
"""

import ast
import functools
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
DOCUMENTED = FUNCTIONS | ast.ClassDef | ast.Module
TOP = ("__init__", "__main__", "_command", "_commands", "_report_command", "cli")


def name_of(path):
    """`purenet.nn.dense` of a file; the face of a package is `purenet.nn.__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@functools.cache
def sources():
    """{name of a module: its syntax tree}."""
    paths = sorted((ROOT / "purenet").rglob("*.py"))
    return {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def listed(found):
    return "\n".join(map(str, found))


def module(name):
    """The module of ours that an imported name is, or None."""
    return next((n for n in (name, f"{name}.__init__") if n in sources()), None)


@functools.cache
def imports():
    """{module: [(module of ours, name taken from it or None)]}, wherever in the file they stand."""
    found = {name: [] for name in sources()}
    for name, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "purenet").startswith(
                "purenet"
            ):
                assert node.level == 0, f"{name}:{node.lineno}: imports name the whole path"
                for alias in node.names:
                    inner = module(f"{node.module}.{alias.name}")
                    found[name].append(
                        (inner or module(node.module), None if inner else alias.name)
                    )
            elif isinstance(node, ast.Import):
                ours = filter(None, (module(alias.name) for alias in node.names))
                found[name] += [(imported, None) for imported in ours]
    return found


def floors(room):
    """The number of floors of rooms that import downwards only; `room` names a module's room.

    Raises CycleError where rooms import one another in a circle.
    """
    graph = {}
    for name, taken in imports().items():
        if (here := room(name)) is not None:
            below = {room(imported) for imported, _ in taken} - {here, None}
            graph.setdefault(here, set()).update(below)
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    count = 0
    while sorter.is_active():
        sorter.done(*sorter.get_ready())
        count += 1
    return count


def top_room(name):
    first = name.split(".")[1]
    return "top" if first in TOP else "core" if first == "_version" else first


def sweep_room(name):
    parts = name.split(".")
    return parts[2] if parts[1] == "sweep" and parts[2] != "__init__" else None


@pytest.mark.parametrize("room", [top_room, sweep_room, lambda name: name])
def test_imports_go_down_only(room):
    assert floors(room) <= (7 if room in (top_room, sweep_room) else len(sources()))


def test_a_circle_of_rooms_is_found(monkeypatch):
    circle = {"purenet.a": [("purenet.b", "y")], "purenet.b": [("purenet.a", "x")]}
    monkeypatch.setitem(globals(), "imports", lambda: circle)
    with pytest.raises(graphlib.CycleError):
        floors(top_room)


def test_a_sweep_knows_no_network_no_optimizer_and_no_training():
    above = {
        (name, imported)
        for name, found in imports().items()
        for imported, _ in found
        if top_room(name) == "sweep" and top_room(imported) in ("nn", "optim", "training", "top")
    }
    assert not above, listed(above)


def test_no_private_name_is_imported_from_another_module():
    taken = {
        (name, imported, private)
        for name, found in imports().items()
        for imported, private in found
        if re.match("_[^_]", private or "")
    }
    for name, tree in sources().items():
        modules = {imported.split(".")[-1] for imported, whole in imports()[name] if whole is None}
        taken |= {
            (name, node.value.id, node.attr)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr)
            if isinstance(node.value, ast.Name) and node.value.id in modules
        }
    assert not taken, listed(taken)


def docstring(node):
    """The lines that the docstring of a module, class or function takes."""
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        return set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return set()


def test_no_file_has_more_than_400_lines():
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "purenet").rglob("*.py")
    }
    over = {path: count for path, count in lines.items() if count > 400}
    assert not over, listed(over.items())


def test_no_function_has_more_than_60_lines_without_its_docstring():
    lines = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1 - len(docstring(node))
        for name, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS)
    }
    over = {name: count for name, count in lines.items() if count > 60}
    assert not over, listed(over.items())


def classes(package):
    """{name: class} of a package."""
    return {
        node.name: node
        for name, tree in sources().items()
        if name.startswith(package)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def attributes(node):
    """The names of a class's fields and of what its methods assign to `self`."""
    fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
    return fields | {
        n.attr
        for n in ast.walk(node)
        if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
        if isinstance(n.value, ast.Name) and n.value.id == "self"
    }


def test_no_class_of_a_sweep_has_more_than_ten_attributes():
    # a dict of options by name has no attributes
    found = classes("purenet.sweep").items()
    typed = lambda node: any(getattr(base, "id", "") == "TypedDict" for base in node.bases)
    counts = {name: len(attributes(node)) for name, node in found if not typed(node)}
    over = {name: count for name, count in counts.items() if count > 10}
    assert not over, listed(over.items())


def test_no_argument_and_no_field_of_a_sweep_hides_a_class_of_ours_behind_any():
    words = [re.findall("[A-Z][a-z]*", name) for name in classes("purenet.sweep")]
    ours = {"_".join(w).lower() for w in words} | {w[-1].lower() for w in words if w}
    hidden = {
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in sources().items()
        if name.startswith("purenet.sweep")
        for node in ast.walk(tree)
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None
        if ast.unparse(node.annotation) in ("Any", "Any | None")
        if re.match(r"(self\.)?(\w+)", ast.unparse(node))[2] in ours
    }
    assert not hidden, listed(hidden)


def test_no_search_and_no_sampler_is_known_by_its_class_or_identity():
    rooms = ("purenet.sweep.samplers", "purenet.sweep.schedulers")
    ours = {name for room in rooms for name in classes(room)} - {"Sampler", "Scheduler"}
    object_of_ours = re.compile(r"\b(search|sampler|scheduler|source)$")

    def knows(node):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            return ours & set(re.findall(r"\w+", ast.unparse(node.args[1])))
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot):
            one, other = ast.unparse(node.left), ast.unparse(node.comparators[0])
            return object_of_ours.search(one) and other != "None"
        return False

    known = {
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in sources().items()
        if name.startswith("purenet.sweep")
        for node in ast.walk(tree)
        if knows(node)
    }
    assert not known, listed(known)


CHECKS = ("require", "expect", "expect_shape", "check_shape")


def calls_a_check(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in CHECKS


def guards(name, tree, calls=False):
    """The lines of code of a module, and those among them that only raise or decide to raise; with
    `calls` also those that call a shared check."""
    text = (ROOT / (name.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    prose = set().union(*map(docstring, ast.walk(tree)))
    code = {
        number
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in prose
    }
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):
            if all(isinstance(n, ast.Raise | ast.Assign) for n in node.body):
                lines |= set(range(node.lineno, node.body[-1].end_lineno + 1))
        elif isinstance(node, ast.Raise) or (calls and calls_a_check(node)):
            lines |= set(range(node.lineno, node.end_lineno + 1))
    return code, lines & code


@pytest.mark.parametrize("calls, share", [(False, 0.07), (True, 0.12)])
def test_little_of_the_code_guards_it(calls, share):
    counted = {name: guards(name, tree, calls) for name, tree in sources().items()}
    code, guarding = (sum(map(len, lines)) for lines in zip(*counted.values(), strict=True))
    most = sorted(((len(lines), name) for name, (_, lines) in counted.items()), reverse=True)
    assert guarding < share * code, f"{guarding} of {code} lines; most in\n{listed(most[:20])}"
