"""What a user finds by `help(pn)`, `dir(pn)` and `dir(pn.sweep)`: the public names, and no more."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import purenet as pn
from purenet import __main__, cli

PACKAGE = Path(pn.__file__).parent


def listed(module):
    """The names in the groups of a package's docstring."""
    return re.findall(r"^    (\w+) {2,}\S", module.__doc__, re.MULTILINE)


@pytest.mark.parametrize("module", [pn, pn.sweep], ids=["purenet", "purenet.sweep"])
def test_the_docstring_lists_every_public_name_once_with_a_line(module):
    assert sorted(listed(module)) == sorted(module.__all__)
    groups = module.__doc__.split("\n\n")[1:]
    assert len([g for g in groups if re.match(r"[A-Z][^\n]*\n    \w", g)]) >= 5
    assert max(map(len, module.__doc__.splitlines())) <= 100


def test_dir_shows_the_public_names_and_no_more():
    assert dir(pn) == sorted([*pn.__all__, "__version__"])
    assert dir(pn.sweep) == sorted(pn.sweep.__all__)


@pytest.mark.parametrize("module", [pn, pn.sweep], ids=["purenet", "purenet.sweep"])
def test_every_public_name_is_there(module):
    assert not [name for name in module.__all__ if not hasattr(module, name)]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("module", [pn, pn.sweep], ids=["purenet", "purenet.sweep"])
def test_whatever_the_face_exports_is_listed(module):
    tree = ast.parse(inspect.getsource(module))
    exported = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert exported - {"__version__"} == set(module.__all__)


def test_what_is_used_later_is_imported_later():
    code = (
        "import sys, purenet as pn\n"
        "dir(pn)\n"
        "later = ['sweep', 'plots', 'checkpoint', 'gradcheck']\n"
        "print([name for name in later if f'purenet.{name}' in sys.modules])\n"
        "print(pn.sweep.run.__name__, pn.save.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["[]", "run save"]


def test_nothing_inside_the_package_imports_its_face():
    for path in PACKAGE.rglob("*.py"):
        if path == PACKAGE / "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert "purenet" not in [alias.name for alias in node.names], path
            if isinstance(node, ast.ImportFrom) and node.module == "purenet":
                for name in (alias.name for alias in node.names):
                    found = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()
                    assert found, f"{path} imports {name} from the package's face"


def test_the_command_says_its_version(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0 and capsys.readouterr().out == f"purenet {pn.__version__}\n"


def test_python_m_purenet_is_the_command():
    assert __main__.main is cli.main
