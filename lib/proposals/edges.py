"""The graph that the segmentation works on: a pixel's differences to its neighbours, in ascending order.

Felzenszwalb and Huttenlocher (IJCV 2004): smooth every channel, weigh the edge between two neighbouring pixels by
the Euclidean distance of their colours, take the edges from the lightest to the heaviest.

C channels, H W pixels, E edges. Edge number ``4 * pixel + direction``, where direction 0 is right, 1 down, 2 down and
right, 3 down and left; pixel is ``y * W + x``.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lib.proposals.compiled import kernel

# A weight is kept as 16 bits cut out of its float32: 5 of the exponent (2**-22 to 2**10), 11 of the mantissa. That
# order is monotone and within 1/2048 of the exact one. A linear scale of as many steps changes the segmentation,
# because most weights of a photograph lie near zero.
_CUT, _FLOOR = 12, (127 - 22) << 11


def smooth(planes: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    """Gaussian of standard deviation `sigma` pixels, cut at 4 sigma as the authors' code does; edges replicated.

    planes  : uint8 (C, H, W)
    returns : float32 (C, H, W) in [0, 255]
    """
    radius = math.ceil(4 * sigma)
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2) if sigma > 0 else np.ones(1)
    taps = (taps / (2 * taps.sum() - taps[0])).astype(np.float32)
    out = np.empty(planes.shape, np.float32)
    _smooth(planes, taps, out)
    return out


def weigh(smoothed: NDArray[np.float32], connectivity: int) -> NDArray[np.uint16]:
    """The weight of every edge as a 16-bit key (see `decode`).

    A space of one channel counts it three times, as the authors do who segment it as a grey RGB image.

    smoothed     : float32 (C, H, W)
    connectivity : 8 neighbours of a pixel, or 4
    returns      : uint16 (D, H, W), D = connectivity / 2 directions; entries of edges that leave the image are unused
    """
    channels, height, width = smoothed.shape
    keys = np.empty((connectivity // 2, height, width), np.uint16)
    _weigh(smoothed, np.float32(3 / channels), keys)
    return keys


def ascending(keys: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """The edges inside the image from the lightest to the heaviest; equal keys in the order of rows, then direction.

    keys    : uint16 (D, H, W) from `weigh`
    returns : uint32 (E,) edge numbers
    """
    directions, height, width = keys.shape
    count = height * (width - 1) + (height - 1) * width
    count += 2 * (height - 1) * (width - 1) if directions == 4 else 0
    order = np.empty(count, np.uint32)
    _sort(keys, np.empty(count, np.uint32), np.empty(count, np.uint8), order)
    return order


def decode(keys: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The weights that keys stand for: float32 grey levels, cut to 11 bits of mantissa, 0 below 2**-22."""
    bits = (keys.astype(np.int32) + _FLOOR) << _CUT
    return np.where(keys == 0, np.float32(0), bits.view(np.float32))


@kernel
def _smooth(planes, taps, out):  # type: ignore[no-untyped-def]
    channels, height, width = planes.shape
    radius = taps.shape[0] - 1
    row = np.empty(width + 2 * radius, np.float32)
    for c in range(channels):
        for y in range(height):
            middle = row[radius : radius + width]
            for x in range(width):
                middle[x] = taps[0] * np.float32(planes[c, y, x])
            for r in range(1, radius + 1):
                above, below, tap = planes[c, max(y - r, 0)], planes[c, min(y + r, height - 1)], taps[r]
                for x in range(width):
                    middle[x] += tap * np.float32(np.int32(above[x]) + np.int32(below[x]))
            row[:radius] = middle[0]
            row[radius + width :] = middle[width - 1]
            line = out[c, y]
            for x in range(width):
                line[x] = taps[0] * middle[x]
            for r in range(1, radius + 1):
                left, right, tap = row[radius - r : radius - r + width], row[radius + r : radius + r + width], taps[r]
                for x in range(width):
                    line[x] += tap * (left[x] + right[x])


@kernel
def _weigh(smoothed, gain, keys):  # type: ignore[no-untyped-def]
    channels, height, width = smoothed.shape
    total = np.empty(width, np.float32)
    bits = total.view(np.int32)
    for d in range(keys.shape[0]):
        down = 0 if d == 0 else 1
        first = 1 if d == 3 else 0
        count = width if d == 1 else width - 1
        for y in range(height - down):
            total[:] = 0
            for c in range(channels):
                here = smoothed[c, y, first : first + count]
                start = first - 1 if d == 3 else (0 if d == 1 else 1)
                there = smoothed[c, y + down, start : start + count]
                for x in range(count):
                    step = here[x] - there[x]
                    total[x] += step * step
            for x in range(count):
                total[x] = np.sqrt(total[x] * gain)
            line = keys[d, y, first : first + count]
            for x in range(count):
                line[x] = max((bits[x] >> _CUT) - _FLOOR, 0)


@kernel
def _sort(keys, pending, pending_high, order):  # type: ignore[no-untyped-def]
    """Two stable counting passes of 8 bits."""
    directions, height, width = keys.shape
    low, high = np.zeros(257, np.int64), np.zeros(257, np.int64)
    for scatter in range(2):
        for y in range(height):
            for d in range(directions):
                if d > 0 and y == height - 1:
                    continue
                first = 1 if d == 3 else 0
                last = width if d in (1, 3) else width - 1
                for x in range(first, last):
                    key = np.int64(keys[d, y, x])
                    if scatter == 0:
                        low[(key & 255) + 1] += 1
                        high[(key >> 8) + 1] += 1
                    else:
                        place = low[key & 255]
                        low[key & 255] = place + 1
                        pending[place] = 4 * (y * width + x) + d
                        pending_high[place] = key >> 8
        if scatter == 0:
            for i in range(256):
                low[i + 1] += low[i]
                high[i + 1] += high[i]
    for i in range(pending.shape[0]):
        place = high[pending_high[i]]
        high[pending_high[i]] = place + 1
        order[place] = pending[i]
