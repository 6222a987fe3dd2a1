"""What README.md and the pages of docs/ show runs as it stands, and what they name exists."""

import ast
import functools
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from forks import run

import purenet as pn
from purenet import cli
from purenet._commands import check, predict, train

README = Path(__file__).parents[1] / "README.md"
ROOT = README.parent
# what `docs/conf.py` makes itself is left out; the others continue the script of the first page
DOCS = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "reference" not in path.parts]
DOCS.sort(key=lambda path: path.name != "start.md")
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


(EXAMPLE,) = blocks(README)
MORE = [block for page in DOCS for block in blocks(page)]


# between the example and what follows it
LEFT = "import os; print('left behind:', sorted(os.listdir()))"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All of it in one process: (what the example prints, what the others print, their folder)."""
    folder = tmp_path_factory.mktemp("readme")
    code = "\n".join([EXAMPLE, LEFT, *MORE])
    done = run("-c", code, cwd=folder)
    assert done.code == 0, done.err
    first, _, others = done.out.partition("left behind: ")
    return first, others, folder


@pytest.mark.slow
def test_the_example_runs_in_an_empty_directory(ran):
    first, others, _ = ran
    assert len(EXAMPLE.splitlines()) <= 25
    assert others.splitlines()[0] == "['best.png', 'trials.csv']"
    assert "rank  trial" in first


@pytest.mark.slow
def test_what_follows_the_example_continues_it(ran):
    _, others, folder = ran
    assert "trial-epochs instead of 800" in others and "±" in others
    assert (folder / "rungs.png").exists()


def test_every_extra_that_a_message_names_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {
        extra
        for path in (ROOT / "purenet").rglob("*.py")
        for extra in re.findall(r"purenet\[(\w+)\]|\bextra\([^()]*\"(\w+)\"\)", path.read_text())
        for extra in filter(None, extra)
    }
    assert "optuna" in named and named <= set(project["optional-dependencies"])


def commands(page):
    """The command lines of a page, from its blocks and from its sentences."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    lines = [*"\n".join(blocks).splitlines(), *spans]
    pieces = [
        piece for line in lines for piece in re.split(r" && | & ?|  +#.*", " ".join(line.split()))
    ]
    return [
        piece
        for piece in pieces
        if re.match(r"(purenet|python|pip|scripts/\w+|pytest)( |$)", piece)
    ]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_file_that_a_command_names_exists(page):
    named = {word for line in commands(page) for word in shlex.split(line) if "/" in word}
    files = {
        word.partition("::")[0]
        for word in named
        if re.match("(scripts|examples|tests|purenet)/", word)
    }
    assert not [name for name in files if not (ROOT / name).exists()]


def test_every_command_of_the_readme_is_understood(monkeypatch):
    asked = []
    understood = lambda options: asked.append(options) or 0
    for name in ("_sweep", "_report"):
        monkeypatch.setattr(cli, name, understood)
    for command in (check, predict, train):
        monkeypatch.setattr(command, "run", understood)
    found = (line for page in PAGES for line in commands(page))
    lines = [shlex.split(line)[1:] for line in found if line.startswith("purenet ")]
    for words in lines:
        if not {"--help", "--process"} & set(words):
            assert cli.main(words) == 0, words
    assert len(asked) >= 6


def test_every_suite_and_extra_that_a_page_names_exists():
    source = ast.parse((ROOT / "scripts" / "benchmark.py").read_text())
    (suites,) = (
        {key.value for key in node.value.keys}
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SUITES"
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in (line for page in PAGES for line in commands(page)):
        if line.startswith("python scripts/benchmark.py"):
            words = shlex.split(line)[2:]
            assert (
                set(words[: next((i for i, w in enumerate(words) if w[:2] == "--"), None)])
                <= suites
            )
        for extras in re.findall(r"\.\[([\w,]+)\]", line):
            assert set(extras.split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_name_that_a_page_uses_exists(page):
    """`pn.adam`, `sweep.grid(points)`, `purenet.nn.conv.choose_method`."""
    for path in set(re.findall(r"\b((?:pn|sweep|purenet)(?:\.\w+)+)", page.read_text())):
        if not re.search(r"\.(py|git|md|toml)$", path):
            first, *names = path.split(".")
            start = pn.sweep if first == "sweep" else pn
            functools.reduce(getattr, names, start)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_of_python_is_python(page):
    for block in re.findall(r"```py(?:thon)?\n(.*?)```", page.read_text(), re.DOTALL):
        ast.parse(block)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]
