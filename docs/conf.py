"""Sphinx: pages in Markdown, notebooks that are run, and a reference made of the docstrings."""

import inspect
import re
import textwrap
from pathlib import Path

import purenet
from purenet import sweep

project = "purenet"
copyright = "the authors of purenet"
version = release = purenet.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
nitpicky = True  # a reference to a name that has no page is a warning, as a broken link is
html_theme = "sphinx_book_theme"
html_title = "purenet"
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
autodoc_typehints = "none"

# modules of one kind of function, which list nothing themselves
MODULES = [
    "ops",
    "metrics",
    "initializers",
    "schedules",
    "data",
    "checkpoint",
    "gradcheck",
    "plots",
]


def listed(module):
    """The groups in a module's docstring: title -> names."""
    found = {}
    for line in module.__doc__.splitlines():
        if re.fullmatch(r"[A-Z][^.:;]*", line):
            title = line
        elif entry := re.match(r"    (\w+) +\S", line):
            found.setdefault(title, []).append(entry[1])
    return found


def own(module):
    """The public functions and classes of a module or a package."""
    root = module.__name__.rpartition(".")[0] if module is purenet.ops else module.__name__
    mine = lambda value: callable(value) and getattr(value, "__module__", "").startswith(root)
    return [name for name, value in vars(module).items() if name[0] != "_" and mine(value)]


def page(module, title, sections):
    """A page of the reference: a directive for each name, under the titles of their groups."""
    lines = [f"# {title}", "", module.__doc__.splitlines()[0] if len(sections) == 1 else "", ""]
    for group, names in sections.items():
        lines += [f"## {group}", ""] if len(sections) > 1 else []
        for name in names:
            value = getattr(module, name)
            if not inspect.ismodule(value):
                kind = "autoclass" if inspect.isclass(value) else "autofunction"
                lines += ["```{eval-rst}", f".. {kind}:: {module.__name__}.{name}", "```", ""]
    return "\n".join(lines)


def write_reference(folder):
    """A page for every public module; one that did not change keeps its time."""
    folder.mkdir(exist_ok=True)
    pages = {
        "purenet": page(purenet, "purenet", listed(purenet)),
        "purenet.sweep": page(sweep, "purenet.sweep", listed(sweep)),
        "purenet.sweep.testing": page(
            sweep.testing, "purenet.sweep.testing", {"": ["check_sampler", "check_scheduler"]}
        ),
    }
    for name in MODULES:
        module = getattr(purenet, name)
        pages[f"purenet.{name}"] = page(module, f"purenet.{name}", {"": own(module)})
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def as_restructured(app, what, name, obj, options, lines):
    """Docstrings are plain text with `code`, indented formulas and examples."""
    text, out, literal = textwrap.dedent("\n".join(lines)), [], False
    for line in text.splitlines():
        line = f"    {line}" if line.startswith("|") else line  # a table stays as it is
        indented = line.startswith("    ") and not line.lstrip().startswith(("...", "- "))
        if indented and not literal and out and not out[-1].strip():
            out += ["::", ""]
        literal = indented or (literal and not line.strip())
        out.append(line if literal or line.startswith((">>>", "...")) else _inline(line))
    lines[:] = out


def _inline(line):
    """One line of prose: `code` as literals, and nothing else with a meaning."""
    parts = re.split(r"(`[^`]+`)", line)
    plain = lambda s: re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", s)
    return "".join(f"`{part}`" if part[:1] == "`" else plain(part) for part in parts)


def setup(app):
    write_reference(Path(__file__).parent / "reference")
    app.connect("autodoc-process-docstring", as_restructured)
