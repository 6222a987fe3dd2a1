"""Images and labels are read from IDX and CSV files, and damaged files are explained.

MNIST comes as four IDX files, raw or gzipped (LeCun, Cortes & Burges, 1998), and is passed around
as CSV: a header line, a `label` column and one column per pixel. The digits, or with --data mnist
the first 1,000 images, are written in each form and read back with each option; shuffled and split;
then files are damaged as happens in practice, and the errors of the readers are listed.

    python examples/e14_data.py
"""

import gzip
import tempfile
from pathlib import Path

import common
import jax
import numpy as np

import purenet as pn


def as_idx(a):
    """The bytes of an IDX file: 00 00, the type (08: uint8), the number of axes, sizes, values."""
    return bytes([0, 0, 8, a.ndim]) + np.array(a.shape, ">u4").tobytes() + a.tobytes()


def as_csv(x, t):
    header = ["label", *(f"pixel{i}" for i in range(x[0].size))]
    rows = np.column_stack([t, x.reshape(len(x), -1)])
    return "\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]).encode()


chosen = common.options(__doc__)
if chosen.data == "mnist":
    parts = pn.data.mnist(chosen.data_dir, normalise=False, flatten=False)
    parts = [(x[:1000], t[:1000]) for x, t in parts]  # images (n, h, w, 1), labels (n,)
else:
    x, t = pn.data.digits(flatten=False)
    x = np.floor(255 * x)
    count = 300 if chosen.quick else 1500
    parts = (x[:count], t[:count]), (x[1500:], t[1500:])
train, test = ((x[..., 0].astype(np.uint8), t.astype(np.uint8)) for x, t in parts)

files = {}
for name, (x, t) in (("train", train), ("t10k", test)):
    files |= {f"{name}-images-idx3-ubyte": as_idx(x), f"{name}-labels-idx1-ubyte": as_idx(t)}
images, labels = files["train-images-idx3-ubyte"], files["train-labels-idx1-ubyte"]
table = as_csv(*train)

with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    for name in ("raw", "gzipped"):
        (folder / name).mkdir()
    for file, content in files.items():
        (folder / "raw" / file).write_bytes(content)
        (folder / "gzipped" / f"{file}.gz").write_bytes(gzip.compress(content))
    (folder / "train.csv").write_bytes(table)

    # every form gives the same images
    print(
        f"{'options':<17}{'x':<18}{'from':>5}{'to':>5}  {'t':<12}same in IDX, gzipped IDX and CSV"
    )
    for options in ({}, {"normalise": False}, {"flatten": False}, {"one_hot": True}):
        raw, gzipped = (pn.data.mnist(folder / name, **options)[0] for name in ("raw", "gzipped"))
        from_csv = pn.data.csv(folder / "train.csv", **options)
        pairs = [*zip(raw, gzipped, strict=True), *zip(raw, from_csv, strict=True)]
        same = all(np.array_equal(a, b) for a, b in pairs)
        given, (x, t) = ", ".join(f"{k}={v}" for k, v in options.items()) or "none", raw
        ends = f"{x.min():>5g}{x.max():>5g}"
        print(f"{given:<17}{x.shape!s:<18}{ends}  {t.shape!s:<12}{'yes' if same else 'no'}")
        assert same
        if not options.get("normalise", True):
            assert np.array_equal(x, train[0].reshape(x.shape))
    x, t = pn.data.csv(folder / "train.csv")

    key = jax.random.key(chosen.seed)
    shuffled = pn.data.shuffle(key, (x, t))[1]
    learn, validate = pn.data.split(key, (x, t), validation=0.2)
    counts = f"{len(learn[1])} to train, {len(validate[1])} to validate"
    print(f"labels {t[:8]}, shuffled {shuffled[:8]}; split: {counts}")
    assert np.array_equal(np.sort(shuffled), np.sort(t))

    # what is wrong, and where
    readers = {"idx": pn.data.idx, "csv": pn.data.csv}
    line = table.split(b"\n")
    damaged = {
        "truncated": ("idx", images[:-100]),
        "longer than its header says": ("idx", images + b"?"),
        "another magic number": ("idx", b"\x89PNG" + images),
        "an unknown element type": ("idx", images[:2] + b"\x0a" + images[3:]),
        "a size that cannot be": ("idx", images[:4] + b"\xff" * 4 + images[8:]),
        "gzip, cut off": ("idx", gzip.compress(images)[:-200]),
        "labels for images": ("images", labels),
        "fewer labels than images": ("labels", as_idx(train[1][:-1])),
        "a label that is no digit": ("labels", as_idx(np.append(train[1][1:], np.uint8(10)))),
        "no label column": ("csv", table.replace(b"label", b"digit", 1)),
        "a row too short": ("csv", b"\n".join([*line[:3], line[3][:-4], *line[4:]])),
        "a pixel out of range": ("csv", b"\n".join([line[0], line[1] + b"999", *line[2:]])),
        "a word": ("csv", b"\n".join([line[0], b"seven" + line[1][1:]])),
        "no text": ("csv", gzip.compress(table)),
    }
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    place = {name.split("-")[1]: folder / "raw" / name for name in names}
    for what, (kind, content) in damaged.items():
        path = place.get(kind, folder / f"damaged.{kind}")
        whole = path.read_bytes() if kind in place else b""
        path.write_bytes(content)
        try:
            readers.get(kind, lambda path: pn.data.mnist(path.parent))(path)
        except ValueError as error:
            print(f"{what}:\n    {str(error).replace(f'{folder}/', '')}")
            assert path.name in str(error)
        else:
            raise AssertionError(f"{what}: nothing was said")
        path.write_bytes(whole)

shown = [int(np.flatnonzero(train[1] == digit)[i]) for i in range(3) for digit in range(10)]
titles = [str(train[1][i]) for i in shown]
pictures = x.reshape(train[0].shape)[shown]
pn.plots.images(chosen.out / "e14_images.png", pictures, titles, title="read from a CSV file")
