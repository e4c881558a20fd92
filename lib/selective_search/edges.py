"""The graph that the segmentation works on: a pixel's differences to its neighbours, in ascending order.

Felzenszwalb and Huttenlocher (IJCV 2004): smooth every channel, weigh the edge between two neighbouring pixels by
the Euclidean distance of their colours, take the edges from the lightest to the heaviest.

C channels, H W pixels, D directions of edges (4, or 2 for a 4-neighbourhood), E edges. Edge number
``4 * position + direction``, where direction 0 is right, 1 down, 2 down and right, 3 down and left. A pixel's position
is not ``y * W + x``: positions run through tiles of 4 x 4, one after the other, so that neighbours share a cache line.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lib.compiled import kernel
from lib.selective_search.scratch import Scratch

# A weight is kept as 16 bits cut out of its float32: 5 of the exponent (2**-22 to 2**10), 11 of the mantissa. That
# order is monotone and within 1/2048 of the exact one. A linear scale of as many steps changes the segmentation,
# because most weights of a natural image lie near zero.
CUT, FLOOR = 12, (127 - 22) << 11
_LEAST = np.float32(2.0**-44)  # added to squares, so that no weight falls below the scale
_OUTSIDE = 65535  # edges that leave the image; the largest real weight, 442, is far below


def smooth(planes: NDArray[np.uint8], sigma: float, scratch: Scratch | None = None) -> NDArray[np.float32]:
    """Gaussian of standard deviation `sigma` pixels, cut at 4 sigma as the authors' code does; edges replicated.

    planes  : uint8 (C, H, W)
    returns : float32 (C, H, W) in [0, 255]
    """
    radius = math.ceil(4 * sigma)
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2) if sigma > 0 else np.ones(1)
    taps = (taps / (2 * taps.sum() - taps[0])).astype(np.float32)
    out = (scratch or Scratch()).take("smoothed", planes.shape, np.float32)
    _smooth(planes, taps, out)
    return out


def weigh(smoothed: NDArray[np.float32], connectivity: int, scratch: Scratch | None = None) -> NDArray[np.uint16]:
    """The weight of every edge as a 16-bit key (see `decode`).

    A space of one channel counts it three times, as the authors do who segment it as a grey RGB image.

    smoothed     : float32 (C, H, W)
    connectivity : 8 neighbours of a pixel, or 4
    returns      : uint16 (D, H, W); the largest number for edges that leave the image
    """
    channels, height, width = smoothed.shape
    keys = (scratch or Scratch()).take("keys", (connectivity // 2, height, width), np.uint16)
    _weigh(smoothed, np.float32(3 / channels), keys)
    return keys


def ascending(
    keys: NDArray[np.uint16], scratch: Scratch | None = None
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """The edges inside the image from the lightest to the heaviest; equal keys in the order of rows, then direction.

    keys    : uint16 (D, H, W) from `weigh`
    returns : uint32 (E,) edge numbers, and their keys, uint16 (E,): looking them up later would miss the cache
    """
    directions, height, width = keys.shape
    count = height * (width - 1) + (height - 1) * width
    count += 2 * (height - 1) * (width - 1) if directions == 4 else 0
    scratch = scratch or Scratch()
    order = scratch.take("order", (keys.size,), np.uint32)
    ordered_keys = scratch.take("ordered_keys", (keys.size,), np.uint16)
    _sort(keys, order, ordered_keys)
    return order[:count], ordered_keys[:count]


def position_count(shape: tuple[int, int]) -> int:
    """How many positions an image of H, W has; whole tiles, so it may be more than its pixels."""
    return 16 * -(-shape[0] // 4) * -(-shape[1] // 4)


def steps(width: int) -> NDArray[np.uint64]:
    """From the position of an edge's first pixel to that of its second, by the edge's number modulo 64.

    returns : uint64 (64,), to be added modulo 2**64
    """
    tiles = -(-width // 4)
    y, x = np.divmod(np.arange(16), 4)
    down, right = np.array([0, 1, 1, 1]), np.array([1, 0, 1, -1])
    there_y, there_x = y[:, None] + down, x[:, None] + right
    there = (there_y // 4 * tiles + there_x // 4) * 16 + there_y % 4 * 4 + there_x % 4
    return (there - np.arange(16)[:, None]).reshape(-1).astype(np.uint64)


def decode(keys: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The weights that keys stand for: float32 grey levels, cut to 11 bits of mantissa; key 0 is 2**-22."""
    return ((keys.astype(np.int32) + FLOOR) << CUT).view(np.float32)


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
                above, below = planes[c, max(y - r, 0)], planes[c, min(y + r, height - 1)]
                tap = taps[r]
                for x in range(width):
                    middle[x] += tap * np.float32(np.int32(above[x]) + np.int32(below[x]))
            row[:radius] = middle[0]
            row[radius + width :] = middle[width - 1]
            line = out[c, y]
            for x in range(width):
                line[x] = taps[0] * middle[x]
            for r in range(1, radius + 1):
                left, right = row[radius - r : radius - r + width], row[radius + r : radius + r + width]
                tap = taps[r]
                for x in range(width):
                    line[x] += tap * (left[x] + right[x])


@kernel
def _weigh(smoothed, gain, keys):  # type: ignore[no-untyped-def]
    channels, height, width = smoothed.shape
    total = np.empty(width, np.float32)
    bits = total.view(np.uint32)
    for d in range(keys.shape[0]):
        down = 0 if d == 0 else 1
        first = 1 if d == 3 else 0
        shift = (1, 0, 1, -1)[d]
        count = width - abs(shift)
        keys[d] = _OUTSIDE
        for y in range(height - down):
            total[:count] = _LEAST
            for c in range(channels):
                here = smoothed[c, y, first : first + count]
                there = smoothed[c, y + down, first + shift : first + shift + count]
                for x in range(count):
                    step = here[x] - there[x]
                    total[x] += gain * (step * step)
            for x in range(count):
                total[x] = np.sqrt(total[x])
            line = keys[d, y, first : first + count]
            for x in range(count):
                line[x] = np.uint16((bits[x] >> np.uint32(CUT)) - np.uint32(FLOOR))


@kernel
def _sort(keys, order, ordered_keys):  # type: ignore[no-untyped-def]
    """Stable, by counting. Indices are unsigned, which saves a check for negative ones."""
    directions, height, width = keys.shape
    offset = np.zeros(65536, np.uint32)  # of each key: first its number of edges, then the index of its next edge
    for y in range(height):
        for d in range(directions):
            line = keys[d, y]
            for x in range(width):
                offset[np.uint64(line[x])] += np.uint32(1)
    total = np.uint32(0)
    for key in range(65536):
        count = offset[key]
        offset[key] = total
        ordered_keys[total : total + count] = key
        total = np.uint32(total + count)
    for y in range(height):
        for d in range(directions):
            row = (y >> 2) * -(-width // 4) * 64 + (y & 3) * 16 + d
            line = keys[d, y]
            for x in range(width):
                key = np.uint64(line[x])
                index = offset[key]
                offset[key] = index + np.uint32(1)
                order[np.uint64(index)] = row + ((x >> 2) << 6) + ((x & 3) << 2)
