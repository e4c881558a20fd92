"""Arithmetic with the same result on every processor: integers, and float64 +, -, *, / and square roots, one at a time.

IEEE 754 rounds each of these exactly. exp, sin and OpenCV's float images differ in the last bit with the instructions
that a processor has (fused steps, other series), and so do sums of floats in an order that a library chooses.
"""

from math import ceil, fsum, sqrt

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
E = 2.718281828459045
RADIAN = 0.017453292519943295  # one degree


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A draw from [low, high), as `rng.uniform`, whose one step some compilers fuse."""
    return low + (high - low) * rng.random()


def power(base: float, exponent: float) -> float:
    """base ** exponent within 1e-9 of its size, by square roots; base > 0, 0 <= exponent."""
    whole = int(exponent)
    result, rest, root = 1.0, exponent - whole, base
    for _ in range(whole):
        result = result * base
    for _ in range(36):  # binary digits of the rest
        root, rest = sqrt(root), rest * 2
        if rest >= 1:
            result, rest = result * root, rest - 1
    return result


def rotation(degrees: float) -> tuple[float, float]:
    """cosine and sine, by their series; |degrees| <= 45."""
    angle = degrees * RADIAN
    term, sums = 1.0, [1.0, 0.0]
    for order in range(1, 20):
        term = term * angle / order
        sums[order % 2] += -term if order % 4 in (2, 3) else term
    return sums[0], sums[1]


def blurred(field: Field, sigma: float) -> Field:
    """A Gaussian blur; the field is mirrored at its borders, whose pixels are not repeated."""
    radius = min(ceil(4 * sigma), min(field.shape) - 1)
    half = [1 / power(E, 0.5 * (offset / sigma) * (offset / sigma)) for offset in range(radius + 1)]
    weights = [*half[:0:-1], *half]
    total = fsum(weights)
    for _ in (0, 1):  # down, then across
        padded, size = np.pad(field, ((radius, radius), (0, 0)), mode="reflect"), len(field)
        field = np.zeros_like(field)
        for start, weight in enumerate(weights):
            field += padded[start : start + size] * (weight / total)
        field = np.ascontiguousarray(field.T)
    return field


def resized(field: Field, height: int, width: int) -> Field:
    """Another size by cubic convolution (Keys, a = -3/4, as OpenCV's); float64 (h, w) or (h, w, channels)."""
    for size in (height, width):  # down, then across
        place = (np.arange(size) + 0.5) * (len(field) / size) - 0.5
        first = np.floor(place).astype(int)
        source, field = field, np.zeros((size, *field.shape[1:]))
        for tap in (-1, 0, 1, 2):
            weight = _cubic(np.abs(place - first - tap)).reshape(-1, *[1] * (field.ndim - 1))
            field += source[np.clip(first + tap, 0, len(source) - 1)] * weight
        field = np.ascontiguousarray(field.swapaxes(0, 1))
    return field


def _cubic(distance: Field) -> Field:
    near = (1.25 * distance - 2.25) * distance * distance + 1
    far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def turned(field: Field, degrees: float, scale: float, side: int) -> Field:
    """The field turned counter-clockwise about its centre and enlarged, on a square of `side`; bilinear, zero outside.

    field : float64 (n, n)
    """
    cosine, sine = rotation(degrees)
    offset = (np.arange(side) - (side - 1) / 2) / scale
    centre, last = (len(field) - 1) / 2, len(field) + 1
    x = np.clip(cosine * offset[None, :] - sine * offset[:, None] + centre + 1, 0, last)
    y = np.clip(sine * offset[None, :] + cosine * offset[:, None] + centre + 1, 0, last)
    padded = np.pad(field, 1)
    left, top = np.minimum(x.astype(int), last - 1), np.minimum(y.astype(int), last - 1)
    right, low = x - left, y - top
    above = padded[top, left] * (1 - right) + padded[top, left + 1] * right
    below = padded[top + 1, left] * (1 - right) + padded[top + 1, left + 1] * right
    return above * (1 - low) + below * low


def distance(height: int, width: int, line: list[tuple[float, float]]) -> Field:
    """float64 (height, width): how far each pixel's centre is from a line through these points (x, y), in pixels."""
    x, y = np.arange(width)[None, :] + 0.5, np.arange(height)[:, None] + 0.5
    nearest = np.full((height, width), np.inf)
    for (x1, y1), (x2, y2) in zip(line, line[1:], strict=False):
        dx, dy = x2 - x1, y2 - y1
        along = np.clip(((x - x1) * dx + (y - y1) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        across, down = x - x1 - along * dx, y - y1 - along * dy
        nearest = np.minimum(nearest, across * across + down * down)
    return np.sqrt(nearest)
