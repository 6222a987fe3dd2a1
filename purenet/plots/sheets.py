"""Sheets of images, and of filters as images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from purenet.core.validate import PositiveInteger, declared, expect, real_numbers, require
from purenet.plots import style


@declared
def images(
    path: style.Target,
    images: Any,
    titles: Sequence[str] | None = None,
    columns: PositiveInteger = 10,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
    dpi: int = 120,
) -> Any:
    """A grid of greyscale or colour images, all on one scale.

    Shapes: images (n, h, w), (n, h, w, 1) or (n, h, w, 3), any real dtype; `titles` n strings.
    `limits` are the values of black and white. They default to 0..255 for uint8, to 0..1 if all
    values are in that range, and else to the smallest and the largest value. `columns` is the
    number of images per row. Returns the path, or the figure if it is None.
    Raises ValueError for any other shape or number of titles, or a bad suffix, `limits` or `dpi`;
    TypeError if an argument has the wrong type; OSError if the picture cannot be written.
    Source: the usual sheet of examples.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images(f"{folder}/digits.png", np.zeros((3, 8, 8, 1)), ["0", "1", "2"]).name
    'digits.png'
    """
    target = style.target("images", path, dpi)
    limits = style.limits_of("images", limits, ordered=False)
    x = _pixels("images", images)
    if x.ndim == 3:
        x = x[..., None]
    legal = x.ndim == 4 and x.shape[3] in (1, 3) and 0 not in x.shape
    expected = "(n, height, width), (n, height, width, 1) or (n, height, width, 3)"
    style.check_shape("images", "the images have", np.shape(images), legal, expected)
    if titles is not None:
        expect(hasattr(titles, "__len__"), "images: titles", titles, "a list of strings")
        text = f"images: there are {len(x)} images, but {len(titles)} titles."
        require(len(titles) == len(x), text)
    return _sheet("images", target, x, limits, titles, columns, title, dpi)


@declared
def filters(
    path: style.Target,
    kernels: Any,
    columns: PositiveInteger = 10,
    title: str | None = None,
    dpi: int = 120,
) -> Any:
    """The kernels of a first convolution as images: zero is middle grey, all on one scale.

    Shapes: kernels (h, w, in, out) with in = 1 (grey) or 3 (colour), any real dtype: `out` images.
    Returns the path, or the figure if it is None.
    Raises ValueError for any other shape, or a bad suffix or `dpi`; TypeError if an argument has
    the wrong type; OSError if the picture cannot be written.
    Source: Krizhevsky, Sutskever & Hinton (2012), figure 3.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     filters(f"{folder}/conv1.png", np.ones((5, 5, 1, 30))).name
    'conv1.png'
    """
    target = style.target("filters", path, dpi)
    w = _pixels("filters", kernels)
    legal = w.ndim == 4 and w.shape[2] in (1, 3) and 0 not in w.shape
    expected = (
        "(height, width, in, out) with in = 1 or 3, as in a first layer; select channels of a "
        "deeper layer, such as kernels[:, :, :1]"
    )
    style.check_shape("filters", "the kernels have", w.shape, legal, expected)
    x = np.moveaxis(w.astype(np.float64), 3, 0)
    most = np.abs(x[np.isfinite(x)]).max(initial=0.0) or 1.0
    return _sheet("filters", target, x, (-most, most), None, columns, title, dpi)


# pieces
def _pixels(caller, values) -> np.ndarray:
    numbers = real_numbers(caller, "the picture", values)
    return np.asarray(values) if getattr(values, "dtype", None) == np.uint8 else numbers


def _sheet(caller, target, x, limits, titles, columns, title, dpi) -> Any:
    """Images (n, h, w, c) side by side, on one pair of axes measured in inches: quick for many."""
    columns = min(columns, len(x))
    rows = -(-len(x) // columns)
    low, high = limits if limits is not None else _value_range(x)
    # halved, so that the full range of float64 does not overflow
    x, low, high = x.astype(np.float64) / 2, low / 2, high / 2
    grey = np.nan_to_num((np.clip(x, min(low, high), max(low, high)) - low) / ((high - low) or 1))
    colours = np.broadcast_to(np.clip(grey, 0, 1), (*x.shape[:3], 3))

    gap, margin = 0.08, 0.12
    label = 0.2 if titles is not None else 0.0
    head = 0.3 if title else 0.0
    wide = min((style.WIDTH - 2 * margin + gap) / columns - gap, 1.2)
    tall = wide * x.shape[1] / x.shape[2]
    width = 2 * margin + columns * (wide + gap) - gap
    height = 2 * margin + head + rows * (tall + label + gap) - gap
    figure = style.figure(width, height, None)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.axis("off")
    for i, picture in enumerate(colours):
        left = margin + i % columns * (wide + gap)
        top = margin + head + i // columns * (tall + label + gap) + label
        ax.imshow(picture, extent=(left, left + wide, top + tall, top), interpolation="nearest")
        if titles is not None:
            ax.text(
                left + wide / 2,
                top - 0.03,
                str(titles[i]),
                fontsize=8,
                ha="center",
                va="bottom",
                parse_math=False,
            )
    if title:
        ax.text(width / 2, margin, title, fontsize=11, ha="center", va="top", parse_math=False)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    return style.write(caller, figure, target, dpi)


def _value_range(x: np.ndarray) -> tuple[float, float]:
    if x.dtype == np.uint8:
        return 0, 255
    finite = x[np.isfinite(x)]
    if not finite.size or (finite.min() >= 0 and finite.max() <= 1):
        return 0, 1
    return float(finite.min()), float(finite.max())
