"""Maps brought from one grid to another: cells of a network's map to pixels of its input, those to pixels of the image.

H W sides of the input, h w of a map, K channels.
"""

import numpy as np
from numpy.typing import NDArray

from lib.visualization.fields import Axis, Fields

Heat = NDArray[np.float32]


def upsample(cells: Heat, fields: Fields) -> Heat:
    """float32 (h, w) on the centres of the cells -> (H, W) on the pixels of the input, bilinear between centres.

    Beyond the outermost centres the value stays.
    """
    rows, columns = (
        _weights((np.arange(side) + 0.5 - axis.first) / axis.stride, count)
        for side, axis, count in zip(fields.sides, _axes(fields), cells.shape, strict=True)
    )
    return np.asarray(rows @ cells @ columns.T, np.float32)


def to_image(heat: Heat, window: NDArray[np.float32], width: int, height: int) -> Heat:
    """float32 (H, W) on the pixels of an input -> (height, width) on those of the image; 0 where the input shows none.

    window : float32 (4,) what the input shows, in pixels of the image
    """
    sides = []
    for side, low, high, count in zip((height, width), window[[1, 0]], window[[3, 2]], heat.shape, strict=True):
        place = (np.arange(side) + 0.5 - low) * count / (high - low) - 0.5
        inside = (place > -0.5) & (place < count - 0.5)
        sides.append(_weights(place, count) * inside[:, None])
    return np.asarray(sides[0] @ heat @ sides[1].T, np.float32)


def scaled(heat: Heat) -> Heat:
    """The map as shares of its largest value, 0 .. 1, negative values 0; a map without positive values is all 0."""
    positive = np.maximum(heat, 0)
    largest = positive.max(initial=0)
    return np.asarray(positive / largest if largest > 0 else positive, np.float32)


def _axes(fields: Fields) -> tuple[Axis, Axis]:
    return fields.rows, fields.columns


def _weights(places: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """float64 (P, count): what each of `count` values adds to the value at each place, in steps between values."""
    places = np.clip(places, 0, count - 1)
    low = np.minimum(np.floor(places).astype(np.int64), max(count - 2, 0))
    share = places - low
    weights, rows = np.zeros((len(places), count)), np.arange(len(places))
    weights[rows, low] = 1 - share
    weights[rows, np.minimum(low + 1, count - 1)] += share
    return weights
