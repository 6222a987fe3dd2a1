"""Leaves of a tree by their names."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from purenet.core.types import PyTree
from purenet.core.validate import require


def named_paths(
    caller: str, tree: PyTree, is_leaf: Callable | None = None
) -> list[tuple[Any, Any]]:
    """The leaves of a tree with their paths. Raises TypeError for dicts that cannot be ordered.

    >>> len(named_paths("save", {"a": [1, 2]}))
    2
    """
    try:
        return jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)[0]
    except (TypeError, ValueError):
        raise TypeError(
            f"{caller}: a dict has keys of several types, such as 1 and 'a', which have no order; "
            "use strings."
        ) from None


_LONGEST_NAME = 10_000  # bytes; a zip directory has room for 65,535


def named_leaves(caller: str, tree: PyTree, is_leaf: Callable | None = None) -> dict[str, Any]:
    """The leaves by their path, `params.weights.0.w`; a tree that is a single leaf is named `leaf`.

    Raises ValueError if two leaves would get the same name, or one that no file can hold, and
    TypeError for a dict whose keys cannot be ordered.

    >>> named_leaves("save", {"a": [1, 2], "b": ()})
    {'a.0': 1, 'a.1': 2}
    """
    leaves: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for path, leaf in named_paths(caller, tree, is_leaf):
        name = jax.tree_util.keystr(path, simple=True, separator=".") if path else "leaf"
        if name in leaves:
            one, other = (jax.tree_util.keystr(p) for p in (paths[name], path))
            raise ValueError(
                f"{caller}: the leaves {one} and {other} would both be named {name!r}; "
                "rename one of them."
            )
        if not _storable(name):
            raise ValueError(
                f"{caller}: the leaf {short(name)} has a name that no file can hold; at most "
                f"{_LONGEST_NAME} bytes of text without NUL are expected."
            )
        leaves[name], paths[name] = leaf, path
    return leaves


def _storable(name: str) -> bool:
    try:
        return len(name.encode()) <= _LONGEST_NAME and "\0" not in name
    except UnicodeEncodeError:
        return False


def short(value: Any) -> str:
    """The value as text, cut if it is long.

    >>> short([1, 2])
    '[1, 2]'
    """
    try:
        text = repr(value)
    except RecursionError:  # lists in lists in lists, from a file
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}…"


def printable(value: Any) -> str:
    r"""The value as text that is safe to print: control characters become escapes.

    >>> print(printable("a" + chr(27) + "[2Jb"))
    a\x1b[2Jb
    """
    escaped = lambda c: c if c.isprintable() else c.encode("unicode_escape").decode()
    return "".join(map(escaped, str(value)))


def fingerprint(data: PyTree) -> str:
    """A hash of the data: its shapes, dtypes and numbers.

    >>> fingerprint({"x": np.zeros(2)}) == fingerprint({"x": np.zeros(3)})
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_flatten_with_path(data)[0]:
        leaf = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        digest.update(leaf.view(np.uint8).data if leaf.size else b"")
    return digest.hexdigest()


def check_same_structure(caller: str, expected: str, like: Any, **trees: Any) -> None:
    """Check that trees have the structure and shapes of `like`, which messages call `expected`.

    Raises ValueError for the first that differs.

    >>> check_same_structure("sgd", "the weights", {"w": np.ones(2)}, grads={"w": np.zeros(2)})
    """
    for name, tree in trees.items():
        structures: Any = jax.tree.structure(tree), jax.tree.structure(like)
        got, wanted = structures
        require(
            got == wanted,
            f"{caller}: the {name} have the structure {got}, but {expected} have {wanted}.",
        )
        for (path, a), b in zip(
            jax.tree.leaves_with_path(tree), jax.tree.leaves(like), strict=True
        ):
            require(
                np.shape(a) == np.shape(b),
                f"{caller}: the {name}{jax.tree_util.keystr(path)} have shape {np.shape(a)}, but "
                f"{expected} there have {np.shape(b)}.",
            )
