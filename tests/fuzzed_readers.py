"""Every reader of files from outside, with valid files, ways to spoil them, and what may come back.

Formats with checksums (gzip, npz, safetensors) give the very same data or a refusal after any
accident. Raw IDX, CSV and JSON have none: there the data must be legal. What was crafted with
right checksums must be of the shapes and dtypes that the caller asked for, or refused.
"""

import contextlib
import gzip
import io
import json
import tempfile
import zipfile
import zlib
from functools import cache, partial
from pathlib import Path
from typing import Any

import fuzzing
import jax
import jax.numpy as jnp
import numpy as np
from fuzzing import Case, changed, changed_text, damaged, likely

import purenet as pn
from purenet import checkpoint, data, sweep
from purenet.core import autosave
from purenet.core.ensemble import Member
from purenet.core.ensemble import ensemble as ensemble_of
from purenet.nn.base import shape
from purenet.sweep import _run as runner
from purenet.sweep.backends import population
from purenet.sweep.engine.pool import LanePool
from purenet.sweep.engine.records import TrialCheckpoint
from purenet.sweep.results import figures
from purenet.sweep.schedulers import pbt
from purenet.sweep.storage import resume as resuming
from purenet.sweep.storage.folder import Store
from purenet.training.run_file import RunFile


def same(got, expected) -> None:
    leaves, structure = jax.tree.flatten(got)
    others, expected_structure = jax.tree.flatten(expected)
    assert structure == expected_structure, "another structure"
    for a, b in zip(leaves, others, strict=True):
        assert getattr(a, "dtype", type(a)) == getattr(b, "dtype", type(b)), "another dtype"
        if hasattr(b, "dtype") and jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.shape(a) == np.shape(b), "another shape"
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), "other numbers"


def alike(got, like) -> None:
    """The structure, shapes and dtypes of `like`."""
    of = lambda tree: jax.tree.map(lambda a: (np.shape(a), getattr(a, "dtype", type(a))), tree)
    assert of(got) == of(like), "another structure, shape or dtype"


# IDX
_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def _idx_bytes(kind: int, array) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(_IDX_TYPES[kind]).tobytes()


def _idx_seeds() -> list[bytes]:
    rng = np.random.default_rng(0)
    shapes = {8: (5, 4, 3), 9: (7,), 11: (2, 3), 12: (3, 1, 2), 13: (4,), 14: (2, 2, 2)}
    return [_idx_bytes(kind, rng.integers(0, 100, shape)) for kind, shape in shapes.items()]


def _idx_legal(content: bytes, array) -> None:
    """As the header says, and nothing of the file is left over."""
    assert content[:2] == b"\0\0" and array.ndim == content[3]
    assert array.dtype == np.dtype(_IDX_TYPES[content[2]]).newbyteorder("=")
    start = 4 + 4 * array.ndim
    assert array.shape == tuple(np.frombuffer(content[4:start], ">u4")) and array.size
    assert array.astype(_IDX_TYPES[content[2]]).tobytes() == content[start:]


def _crafted_idx(rng) -> bytes:
    """A header of extremes: 10^12 images, products that overflow, 255 axes."""
    axes = rng.choice((0, 1, 2, 3, 3, 3, 4, 8, 64, 65, 255))
    sizes = [rng.choice((*fuzzing.EXTREMES, 1, 1, 2, 3)) % 2**32 for _ in range(axes)]
    start = bytes([0, 0, rng.choice((*_IDX_TYPES, 0, 10, 255)), axes])
    return start + np.array(sizes, ">u4").tobytes() + rng.randbytes(rng.choice((0, 1, 12, 300)))


def idx(folder: Path):
    path, seeds = folder / "images-idx3-ubyte", _idx_seeds()

    def case(rng):
        content = damaged(rng, rng.choice(seeds)) if likely(rng, 0.75) else _crafted_idx(rng)
        if content[:2] == b"\x1f\x8b":  # it became gzip
            return Case({path: content}, lambda: data.idx(path), lambda array: None)
        return Case({path: content}, lambda: data.idx(path), partial(_idx_legal, content))

    return case


def idx_gz(folder: Path):
    path, seeds = folder / "images-idx3-ubyte.gz", _idx_seeds()

    def case(rng):
        read = lambda: data.idx(path)
        if likely(rng, 0.01):  # 1 GiB of zeros, after a header or as one
            header = _idx_bytes(8, np.zeros((1, 1, 1))) if likely(rng, 0.5) else _crafted_idx(rng)
            front = rng.choice((b"", gzip.compress(header)))
            return Case({path: front + fuzzing.bomb("gzip")}, read, lambda array: None)
        content = rng.choice(seeds)
        if likely(rng, 0.6):
            packed = damaged(rng, fuzzing.gzipped(rng, content))
            check = lambda array: _idx_legal(content, array)
            if packed[:2] != b"\x1f\x8b":  # it became raw
                check = partial(_idx_legal, packed)
            return Case({path: packed}, read, check)
        content = damaged(rng, content) if likely(rng, 0.5) else _crafted_idx(rng)
        packed = fuzzing.gzipped(rng, content)
        return Case({path: packed}, read, partial(_idx_legal, content))

    return case


def mnist(folder: Path):
    rng = np.random.default_rng(0)
    whole = {}
    for part, n in (("train", 4), ("t10k", 3)):
        images, labels = rng.integers(0, 256, (n, 3, 3)), rng.integers(0, 10, n)
        whole[folder / f"{part}-images-idx3-ubyte"] = _idx_bytes(8, images)
        whole[folder / f"{part}-labels-idx1-ubyte"] = _idx_bytes(8, labels)

    def legal(found):
        for x, t in found:
            assert x.dtype == np.float32 and t.dtype == np.int32 and len(x) == len(t) > 0
            assert x.min() >= 0 and x.max() <= 1 and t.min() >= 0 and t.max() <= 9

    def case(rng):
        files, paths = dict(whole), [*whole]
        spoilt = rng.choice(paths)
        what = rng.randrange(10)
        if what < 6:
            files[spoilt] = damaged(rng, whole[spoilt])
        elif what == 6:
            files[spoilt] = _crafted_idx(rng)
        elif what == 7:
            files[spoilt] = damaged(rng, fuzzing.gzipped(rng, whole[spoilt]))
        elif what == 8:
            files[spoilt] = whole[rng.choice(paths)]
        else:
            other = rng.choice(paths)
            files[spoilt], files[other] = whole[other], damaged(rng, whole[spoilt])
        return Case(files, lambda: data.mnist(folder), legal)

    return case


# CSV
def csv(folder: Path):
    path = folder / "images.csv"
    rng = np.random.default_rng(0)
    table = [["label", *(f"pixel{i}" for i in range(9))]]
    table += [[str(n) for n in (i % 10, *rng.integers(0, 256, 9))] for i in range(8)]
    plain = "\n".join(map(",".join, table)).encode() + b"\n"
    quoted = "\r\n".join(",".join(f'"{cell}"' for cell in row) for row in table).encode()
    turned = [[*row[1:5], row[0], *row[5:]] for row in table]
    middle = b"\xef\xbb\xbf" + "\n\n".join(map(", ".join, turned)).encode()
    seeds = [plain, quoted, middle.replace(b" label", b"label")]
    cells = (b"nan", b"inf", b"1e999", b"-0", b"1_0", b"256", b"255.0001", b"2.5e2", b"0x10", b"",
             b" 7 ", b'"', b'""', b'"7', b'7"', b"\0", b"\xff", "\u0663".encode(), b"1" * 10_000,
             b"9" * 400, b"1e-999", b"2147483647", b"2147483648", b"99999", b"\xef\xbb\xbf7",
             b'"1\n2"', b"x" * 140_000, b"+7", b"7.", b".7", b".", b"1e", b"True")  # fmt: skip

    def legal(flatten, coded, found):
        x, t = found
        assert x.dtype == np.float32 and len(x) == len(t) > 0 and np.isfinite(x).all()
        assert x.min() >= 0 and x.max() <= 1 and x.ndim == (2 if flatten else 4)
        if coded:
            assert t.dtype == np.float32 and (t.sum(axis=1) == 1).all() and set(t.flat) <= {0, 1}
        else:
            assert t.dtype == np.int32 and t.ndim == 1 and t.min() >= 0

    def case(rng):
        content = rng.choice(seeds)
        if likely(rng, 0.3):  # cell by cell
            rows = [line.split(b",") for line in content.splitlines()]
            for _ in range(rng.choice((1, 1, 2, 5))):
                row = rng.choice(rows)
                if row:
                    row[rng.randrange(len(row))] = rng.choice(cells)
            content = rng.choice((b"\n", b"\r\n", b"\r")).join(map(b",".join, rows))
        else:
            content = damaged(rng, content)
        if likely(rng, 0.03):
            text = content.decode("latin-1")
            code = rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))
            content = text.encode(code, "replace")
        flatten, coded = likely(rng, 0.7), likely(rng, 0.3)
        classes = 10 if coded and likely(rng, 0.5) else None
        read = lambda: data.csv(path, flatten=flatten, one_hot=coded, classes=classes)
        return Case({path: content}, read, partial(legal, flatten, coded))

    return case


# checkpoints
def _like():
    rng = np.random.default_rng(0)
    return {
        "w": rng.random((3, 4), np.float32), "b": jnp.arange(3, dtype=jnp.bfloat16), "steps": 7,
        "rate": 0.5, "done": False, "empty": np.zeros((0, 3)), "z": np.array([1j, 2], np.complex64),
        "key": jax.random.key(3), "state": [np.arange(5, dtype=np.int16), np.array([True, False])],
        "big": np.arange(3, dtype=">i4"),
    }  # fmt: skip


_METADATA = {"note": "hello", "numbers": [1, 2.5, None], "more": {"a": {"b": True}}}


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _spoilt_zip(rng, members: dict[str, bytes]) -> bytes:
    """Any members, or headers, or an archive around them, that nobody of good will writes."""
    if likely(rng, 0.01):
        return fuzzing.zip_bomb(rng, members)
    members = dict(members)
    arrays = [name for name in members if name.endswith(".npy")]
    what = rng.randrange(4)
    if what == 0 and arrays:
        name = rng.choice(arrays)
        members[name] = fuzzing.crafted_npy(rng, members[name])
    elif what == 1:
        name = rng.choice([*members])
        members[name] = damaged(rng, members[name])
    elif what == 2:
        one, other = rng.choice([*members]), rng.choice([*members])
        members[one], members[other] = members[other], members[one]
    else:
        return fuzzing.crafted_zip(rng, members)
    return _zip(members)


def _zip(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in members.items():
            archive.writestr(zipfile.ZipInfo(name), part)
    return content.getvalue()


def _with_text(content: bytes, text: str) -> bytes:
    """The checkpoint, npz or safetensors, with other words and right checksums."""
    packed = text.encode("utf-8", "surrogatepass")
    if content[:2] == b"PK":
        return _zip(_members(content) | {"metadata.json": packed})
    header, body = _header(content)
    _, _, sums = json.loads(header["__metadata__"]["purenet"])
    text = packed.decode("utf-8", "replace")
    entry = json.dumps([text, zlib.crc32(text.encode()), sums])
    return _safetensors(header | {"__metadata__": {"purenet": entry}}, body)


def _text(content: bytes) -> str:
    if content[:2] == b"PK":
        return _members(content)["metadata.json"].decode()
    return json.loads(_header(content)[0]["__metadata__"]["purenet"])[0]


def _header(content: bytes) -> tuple[dict, bytes]:
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def _safetensors(header, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def _spoilt_safetensors(rng, content: bytes) -> bytes:
    header, body = _header(content)
    what = rng.randrange(4)
    if what == 0:
        return len(content).to_bytes(8, "little")[: rng.randrange(9)] + damaged(rng, content[8:])
    if what == 1:  # the entry of ours: text, checksum, checksums
        entry = changed_text(rng, json.loads(header["__metadata__"]["purenet"]))
        header["__metadata__"]["purenet"] = entry
        return _safetensors(header, body)
    if what == 2:
        text = damaged(rng, json.dumps(header).encode())
        return _safetensors(text, body)
    return _safetensors(changed_text(rng, header).encode("utf-8", "replace"), body)


def _documents(rng, content: bytes) -> bytes:
    """Another document in the file: field by field, or as text."""
    document = json.loads(_text(content))
    if likely(rng, 0.2):
        return _with_text(content, damaged(rng, json.dumps(document).encode()).decode("latin-1"))
    return _with_text(content, changed_text(rng, document))


def _checkpoint(suffix: str, folder: Path):
    path, like = folder / f"tree{suffix}", _like()
    pn.save(path, like, _METADATA)
    content = path.read_bytes()
    read = lambda: (pn.load(path, like), checkpoint.load_metadata(path))

    def case(rng):
        if likely(rng, 0.6):
            spoilt = damaged(rng, content)
            return Case({path: spoilt}, read, lambda found: same(found, (like, _METADATA)))
        if likely(rng, 0.4):
            spoilt = _documents(rng, content)
        elif suffix == ".npz":
            spoilt = _spoilt_zip(rng, _members(content))
        else:
            spoilt = _spoilt_safetensors(rng, content)
        return Case({path: spoilt}, read, lambda found: alike(found[0], like))

    return case


npz = partial(_checkpoint, ".npz")
safetensors = partial(_checkpoint, ".safetensors")


# networks
def _networks() -> list[tuple[Any, Any]]:
    return [
        (pn.serial(pn.dense(3, pn.initializers.normal(0.1)), pn.relu, pn.dense(2)), 4),
        (pn.mlp(batch_norm=True, dropout=0.5), (4, 3, 2)),
        (pn.serial(pn.conv(2, 3, padding=1), pn.max_pool(2), pn.flatten, pn.dense(2)), (4, 4, 1)),
        (pn.serial(pn.avg_pool(2), pn.local_response_norm(3), pn.global_avg_pool), (4, 4, 2)),
        (pn.serial(pn.embedding(5, 2), pn.layer_norm(), pn.dropout(0.1), pn.flatten), 3),
        (pn.remat(pn.mlp(compute_dtype="bfloat16")), (4, 3, 2)),
        (pn.serial(pn.residual(pn.dense(4)), partial(pn.leaky_relu, slope=0.2), pn.softmax), 4),
    ]


_SIZES = (0, 1, 2, 3, 4, 5, 7, 64, 1000, 2**31 - 1, 2**31, 2**32, 2**63, 10**12, 10**20, -1, 2.5,
          True, None, [2, 2], [2**31 - 1, 2**31 - 1], [1, 10**20], [3], [1, 2, 3], "same", "x",
          [1] * 50)  # fmt: skip
_LAYERS = {
    "dense": ("units",),
    "conv": ("filters", "kernel", "stride", "padding", "bias", "method", "groups", "dilation"),
    "max_pool": ("size", "stride", "padding"), "avg_pool": ("size", "stride", "padding"),
    "batch_norm": ("momentum", "eps"), "layer_norm": ("eps",), "dropout": ("rate",),
    "local_response_norm": ("n", "k", "alpha", "beta"), "embedding": ("count", "features"),
    "mlp": ("batch_norm", "dropout"),
}  # fmt: skip
_FUNCTIONS = ("relu", "leaky_relu", "softmax", "flatten", "global_avg_pool", "zeros", "he_normal",
              "normal", "uniform", "gelu", "eval", "__import__")  # fmt: skip


def _grown(rng, depth: int = 0) -> Any:
    """A description grown from the names of layers, with any numbers."""
    kind = rng.choice((*_LAYERS, *_LAYERS, "function", "serial", "residual", "remat"))
    if kind == "function" or depth > 4:
        found: dict = {"function": rng.choice(_FUNCTIONS)}
        if likely(rng, 0.2):
            found["keywords"] = {rng.choice(("slope", "axis", "std", "key")): rng.choice(_SIZES)}
        if likely(rng, 0.1):
            found["args"] = [rng.choice(_SIZES)]
        return found
    if kind == "serial":
        parts = [_grown(rng, depth + 1) for _ in range(rng.randrange(4))]
        dtype = {"compute_dtype": rng.choice(("bfloat16", "int8", 16))} if likely(rng, 0.2) else {}
        return {"layer": "serial", "arguments": {"layers": parts, **dtype}}
    if kind in ("residual", "remat"):
        return {"layer": kind, "arguments": {"layer": _grown(rng, depth + 1)}}
    names = [name for i, name in enumerate(_LAYERS[kind]) if i == 0 or likely(rng, 0.4)]
    return {"layer": kind, "arguments": {name: rng.choice(_SIZES) for name in names}}


def network(folder: Path):
    seeds = []
    for i, (net, sizes) in enumerate(_networks()):
        params = net.init(jax.random.key(i), sizes)
        for suffix in (".npz", ".safetensors"):
            path = folder / f"net{suffix}"
            pn.save_network(path, net, sizes, params)
            seeds.append((path, path.read_bytes(), sizes, params))

    def legal(found):
        net, sizes, params = found
        assert isinstance(net, pn.Layer) and shape(sizes)
        assert isinstance(params, pn.Params)

    def case(rng):
        path, content, sizes, params = rng.choice(seeds)
        read = lambda: pn.load_network(path)
        if likely(rng, 0.2):
            check = lambda found: same(found[1:], (sizes, params))
            return Case({path: damaged(rng, content)}, read, check)
        if likely(rng, 0.1):
            parts = path.suffix == ".npz" and _members(content)
            spoilt = _spoilt_zip(rng, parts) if parts else _spoilt_safetensors(rng, content)
            return Case({path: spoilt}, read, legal)
        document = json.loads(_text(content))
        network = document["network"]
        if likely(rng, 0.4):
            own = network["description"]
            inside = own["arguments"].get("layers") if likely(rng, 0.7) else None
            if inside:
                inside[rng.randrange(len(inside))] = _grown(rng)
            else:
                network["description"] = _grown(rng)
            if likely(rng, 0.3):
                network["sizes"] = rng.choice(_SIZES)
            text = fuzzing.written(document)
        else:
            strange = (*fuzzing.STRANGE, *_SIZES)
            document["network"] = changed(rng, network, strange)
            text = fuzzing.written(document)
        return Case({path: _with_text(content, text)}, read, legal)

    return case


# ensembles
def _voters():
    """Two networks of padded width, and a third one."""
    key = jax.random.key(0)

    def of(slope, width=None):
        width = 3 if width is None else pn.PaddedSize(width, 3)
        net = pn.serial(pn.dense(width), partial(pn.leaky_relu, slope=slope), pn.dense(2))
        loss = partial(pn.softmax_cross_entropy, smoothing=0.1)
        return pn.supervised(net, 2, pn.sgd(0.1), loss, 4,
                             metrics={"f1": pn.metrics.f1}, weights=[1.0, 2.0])  # fmt: skip

    predictor = lambda numbers: of(*numbers).predict
    numbers = [(jnp.float32(0.1), jnp.int32(1)), (jnp.float32(0.2), jnp.int32(3)), (0.3,)]
    members = [
        Member(i, group, predictor, own, of(*own).init(key))
        for i, (group, own) in enumerate(zip((0, 0, 1), numbers, strict=True))
    ]
    return ensemble_of(members, [1, 2, 1], of(0.1).score)


def ensemble(folder: Path):
    seeds, trials = [], (0, 1, 2)
    for suffix in (".npz", ".safetensors"):
        path = folder / f"voters{suffix}"
        pn.save_ensemble(path, _voters())
        found = pn.load_ensemble(path)
        seeds.append((path, path.read_bytes(), (found.members, found.weights)))

    def legal(found):
        assert isinstance(found, pn.Ensemble) and len(found) == len(found.weights)

    def case(rng):
        path, content, expected = rng.choice(seeds)
        read = lambda: pn.load_ensemble(path)
        if likely(rng, 0.2):

            def check(found):
                same((found.members, found.weights), expected)
                assert found.trials == trials

            return Case({path: damaged(rng, content)}, read, check)
        document = json.loads(_text(content))
        strange = (*fuzzing.STRANGE, *_SIZES)
        entry = document["ensemble"]
        if likely(rng, 0.3):
            group = rng.choice(entry["groups"])
            part = rng.choice((*group, *group, "network", "sizes"))
            group[part] = changed(rng, group[part], strange)
        elif likely(rng, 0.5):
            entry["scoring"] = changed(rng, entry["scoring"], strange)
        else:
            document["ensemble"] = changed(rng, entry, strange)
        return Case({path: _with_text(content, fuzzing.written(document))}, read, legal)

    return case


# the file of fit
def fit(folder: Path):
    path, key = folder / "run.npz", jax.random.key(0)
    parts = {"train": (np.zeros((4, 2), np.float32), np.zeros(4, np.int32))}
    state = {"w": np.arange(6.0).reshape(2, 3), "step": np.int32(12), "count": jnp.arange(2)}
    names = {"train": {"loss": jax.ShapeDtypeStruct((), np.dtype(float))}}
    history = {"train": {"loss": np.arange(5.0)}}
    RunFile(path, key, parts).save(state, history, 3)
    content = path.read_bytes()
    cut = {"train": {"loss": np.arange(3.0)}}

    def read():
        return RunFile(path, key, parts).load(state, names, 5)

    def legal(found):
        got, curves, done = found
        alike(got, state)
        assert 0 <= done <= 5 and curves["train"]["loss"].shape == (done,)

    def case(rng):
        what = rng.random()
        if what < 0.5:
            check = lambda found: same(found, (state, cut, 3))
            return Case({path: damaged(rng, content)}, read, check)
        spoilt = _documents(rng, content) if what < 0.8 else _spoilt_zip(rng, _members(content))
        return Case({path: spoilt}, read, legal)

    return case


# the folder of a sweep
_DATA = ((np.ones(3),), (np.zeros(3),))
_SPACE = {
    "limit": sweep.uniform(0.0, 1.0), "kind": sweep.choice([pn.relu, pn.tanh]), "k": 0.5,
    "rate": sweep.loguniform(0.1, 0.9), "width": sweep.randint(1, 4),
}  # fmt: skip
_MEMBERS = {"limit": sweep.uniform(0.0, 1.0), "kind": pn.relu, "k": 0.5}
_BRANCHES = {
    **_SPACE,
    "more": sweep.choice([
        {"a": sweep.uniform(0.0, 1.0), "same": "x"},
        {"b": sweep.randint(1, 9), "same": sweep.padded(sweep.randint(1, 9), (4, 8))},
    ]),
}  # fmt: skip
_FILES = ("settings.json", "trials.jsonl", "curves.npz", "states.npz", "report.json")


def _learner(hyper):
    step = lambda x: x + 0.3 * (hyper["kind"](hyper["limit"]) - x)
    return pn.Trainable(
        init=lambda key: {"x": jax.random.uniform(key), "key": key},
        epoch=lambda state, data: ({**state, "x": step(state["x"])}, {}),
        evaluate=lambda state, data: {"loss": state["x"] + 0 * data[0].sum()},
    )


class _Enough(Exception):
    pass


class _Halted(Store):
    """A folder whose process dies after some saves."""

    left = 0

    def save(self, *arguments):
        super().save(*arguments)
        self.left -= 1
        if not self.left:
            raise _Enough


@cache
def _sweeps() -> list[tuple[Any, dict, dict[str, bytes]]]:
    """(request, settings, files) of sweeps: done or half done, of single trials or a population."""
    found = []
    for search, space, seeds, saves in (
        (sweep.halving(), _SPACE, 2, 99), (sweep.random, _SPACE, 1, 2),
        (sweep.pbt(every=2), _MEMBERS, 1, 5), (sweep.pbt(every=2), _MEMBERS, 1, 99),
        (sweep.random, _BRANCHES, 1, 99), (sweep.pbt(every=2), _BRANCHES, 1, 7),
    ):  # fmt: skip
        request = runner.SweepConfig(
            _learner,
            space,
            _DATA,
            5,
            6,
            0,
            search=search,
            seeds=seeds,
            devices=jax.local_devices()[:1],
        )
        settings = request.settings() | {"data": request.fingerprint}
        with contextlib.ExitStack() as often:
            folder = Path(often.enter_context(tempfile.TemporaryDirectory()))
            store = often.enter_context(contextlib.closing(_Halted(folder, settings)))
            store.left = saves
            for module, name, value in ((LanePool, "_advance", _slowly(LanePool._advance)),
                                        (autosave, "SHARE", 1e9)):  # fmt: skip
                often.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, value)
            with contextlib.suppress(_Enough):
                runner.SweepRun(request, None, 1).run(False, 0.0, store)
            files = {name: (folder / name).read_bytes() for name in _FILES}
        found.append((request, settings, files))
    return found


def _slowly(advance):
    """A report, and so a save, after every epoch."""
    return lambda self, remaining: advance(self, np.minimum(remaining, 1))


def _spoilt_file(rng, name: str, content: bytes) -> bytes:
    """With right checksums where there are any."""
    if name.endswith(".npz"):
        return (
            _other_arrays(rng, content) if likely(rng, 0.6) else _spoilt_zip(rng, _members(content))
        )
    if name.endswith(".jsonl"):
        rows = [json.loads(line) for line in content.splitlines()]
        if likely(rng, 0.3):
            rows = changed(rng, rows)
            rows = rows if isinstance(rows, list) else [rows]
        else:
            i = rng.randrange(len(rows))
            rows[i] = changed(rng, rows[i])
        return "\n".join(map(fuzzing.written, rows)).encode("utf-8", "replace")
    return changed_text(rng, json.loads(content)).encode("utf-8", "replace")


_SHAPES = ((), (0,), (1,), (3,), (50,), (5, 6), (10, 6), (5, 1), (5, 0), (0, 6), (2, 3, 2))


def _other_arrays(rng, content: bytes) -> bytes:
    """Well-formed arrays of other shapes, dtypes and numbers."""
    members = _members(content)
    names = [name for name in members if name.endswith(".npy")]
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(names)
        array = np.load(io.BytesIO(members[name]))
        what = rng.randrange(6)
        with np.errstate(all="ignore"):
            if what == 0:
                array = array.astype(rng.choice(("f8", "f4", "i8", "u1", "?", "c16", ">i4", "i1")))
            elif what == 1:
                array = np.resize(array, rng.choice(_SHAPES))
            elif what == 2 and array.size:
                array = array.copy()
                strange = (np.nan, np.inf, -1, 2**31, 2**62, 7, 0, -(2**62), 1e300)
                wide = array.astype(float)
                wide.flat[rng.randrange(array.size)] = rng.choice(strange)
                array = wide if likely(rng, 0.3) else wide.astype(array.dtype)
            elif what == 3:
                array = array.reshape(-1)
            elif what == 4:
                array = array[..., None]
            else:
                array = np.load(io.BytesIO(members[rng.choice(names)]))
        out = io.BytesIO()
        np.lib.format.write_array(out, np.ascontiguousarray(array).reshape(array.shape), (1, 0))
        members[name] = out.getvalue()
    return _zip(members)


def _one_spoilt(rng, folder: Path, files: dict[str, bytes], names) -> tuple[dict, str, bool]:
    """(files, which one, whether by an accident)."""
    name, accident = rng.choice(names), likely(rng, 0.5)
    spoilt = damaged(rng, files[name]) if accident else _spoilt_file(rng, name, files[name])
    written = {folder / n: spoilt if n == name else content for n, content in files.items()}
    return written, name, accident


def load(folder: Path):
    seeds = []
    for _, _, files in _sweeps():
        for name in _FILES:
            (folder / name).write_bytes(files[name])
        seeds.append((files, sweep.load(folder)))
    names = [name for name in _FILES if name != "states.npz"]

    def key(result):
        # what comes of curves.npz and settings alone
        numbers = [result.epochs, result.curves, result.lineage and result.lineage.arrays()]
        return numbers, result.status.tolist()

    def legal(result):
        n = result.trials
        assert n > 0 and result.seeds > 0 and n % result.runs == 0
        assert set(result.status.tolist()) <= {"done", "stopped", "diverged"}
        assert result.epochs.shape == (n,) and result.epochs.min() >= 0
        assert result.metric in result.curves["validation"]
        for metrics in result.curves.values():
            for curve in metrics.values():
                assert curve.ndim == 2 and len(curve) == n and curve.dtype.kind == "f"
                assert curve.shape[1] >= result.epochs.max()
        assert all(column.shape == (n,) for column in result.hyper.values())
        assert len(result.rows()) == n and result.table() and result.ranked() is not None
        assert np.isfinite(result.seconds)
        list(map(str, map(result.trial, range(n))))
        figures.labels(result.outcomes, figures.varied(result.outcomes))
        if result.lineage is not None:
            parents = result.lineage.parents
            assert parents.ndim == 2 and parents.shape[1] == n and result.lineage.every > 0
            if parents.size:
                assert parents.min() >= 0 and parents.max() < n
            for column in result.lineage.numbers.values():
                assert column.shape == (len(parents) + 1, n)

    def case(rng):
        whole, result = rng.choice(seeds)
        files, name, accident = _one_spoilt(rng, folder, whole, names)

        def check(found):
            legal(found)
            if accident and name == "curves.npz":
                one, other = key(found), key(result)
                same(one[0], other[0])
                assert one[1] == other[1]

        return Case(files, lambda: sweep.load(folder), check)

    return case


def resume(folder: Path):
    seeds = []
    for request, settings, files in _sweeps():
        begun = runner.SweepRun(request, None, 1)
        begun.add_groups()
        compiled = [_Ready(group.compile().result()) for group in begun.groups]
        seeds.append((request, settings, files, compiled, begun.workplace.placed))

    def read(request, settings, compiled, placed):
        """All that `run` does with a folder before it trains."""
        with contextlib.closing(Store(folder, settings)) as store:
            going = runner.SweepRun(request, None, 1)
            going.workplace.placed = placed
            going.add_groups()
            for group, ready in zip(going.groups, compiled, strict=True):
                group._compilation = ready
            state = going.state
            if store.resumes:
                resuming.load(store, state, going.groups)
            if isinstance(request.search, pbt.Population):
                level = resuming.rejoin_population(state, going.groups)
                done = max(0, -(-level // request.search.every) - 1)
                state.lineage = population.restored_lineage(request.search, state, done)
            waiting = [group.pool().waiting for group in going.groups]
            return going.result(), waiting, going

    def known(found):
        result, waiting, _ = found
        records = [{row: (r.numbers, r.epochs, r.state) for row, r in w.items()} for w in waiting]
        lineage = result.lineage and result.lineage.arrays()
        return [result.epochs, result.curves, result.kept, lineage, records], result.status.tolist()

    expected = []
    for request, settings, files, compiled, placed in seeds:
        for name in _FILES:
            (folder / name).write_bytes(files[name])
        expected.append(known(read(request, settings, compiled, placed)))

    def legal(request, compiled, found):
        result, waiting, going = found
        state = going.state
        assert state.epochs.min() >= 0 and state.epochs.max() <= request.epochs
        assert result.ranked() is not None and result.table() and state.scores() is not None
        assert np.isfinite(result.seconds)
        for g, records in enumerate(waiting):
            shapes = compiled[g].compiled.shapes.numbers
            numbers = [jax.ShapeDtypeStruct((), a.dtype) for a in shapes]
            leaves = compiled[g].compiled.program.leaves
            for row, record in records.items():
                assert isinstance(record, TrialCheckpoint) and 0 <= row < len(going.groups[g].rows)
                assert 0 <= record.epochs <= request.epochs
                for arrays, likes in (
                    (record.state, leaves),
                    (record.numbers, numbers),
                ):
                    for a, like in zip(arrays, likes, strict=True):
                        assert a.shape == like.shape and a.dtype == like.dtype
        if result.lineage is not None:
            parents = result.lineage.parents
            if parents.size:
                assert parents.min() >= 0 and parents.max() < result.trials
        for row, state in result.kept.items():
            assert 0 <= row < request.shape.rows
            alike(state, jax.eval_shape(lambda: _learner({"kind": pn.relu, "limit": 0.5}).init(
                jax.random.key(0))))  # fmt: skip

    def case(rng):
        i = rng.randrange(len(seeds))
        request, settings, whole, compiled, placed = seeds[i]
        names = [name for name in _FILES if name != "trials.jsonl"]
        files, name, accident = _one_spoilt(rng, folder, whole, (*names, "states.npz"))

        def check(found):
            legal(request, compiled, found)
            if accident and name.endswith(".npz"):
                one = known(found)
                same(one[0], expected[i][0])
                assert one[1] == expected[i][1]

        return Case(files, lambda: read(request, settings, compiled, placed), check)

    return case


class _Ready:
    """A program that is compiled already."""

    def __init__(self, compiled):
        self.compiled = compiled

    def result(self):
        return self.compiled


READERS = {
    "idx": idx, "idx.gz": idx_gz, "mnist": mnist, "csv": csv, "npz": npz,
    "safetensors": safetensors, "network": network, "ensemble": ensemble, "fit": fit, "load": load,
    "resume": resume,
}  # fmt: skip
