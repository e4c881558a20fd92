"""How one handwritten digit looks in an image: its mask, enlarged from 8 × 8 pixels, and its colour."""

import cv2
import numpy as np

from lib.digits.exact import Field, blurred, resized, turned

LUMA = np.array([299, 587, 114])  # thousandths of R, G, B (ITU-R BT.601, as in JPEG)


def render(
    sample: np.ndarray, size: float, angle_deg: float, blur_px: float,
    level: float = 0.25, smooth: float = 0.25, sharpen: float = 3.0,
) -> Field:
    """The alpha mask of one digit with edges about a pixel wide.

    sample  : (8, 8)  0 to 16, ink is high
    size    : longer side of the upright digit's ink
    level   : share of the highest ink at which the outline runs
    smooth  : sigma of the blur that removes the grid, in the sample's pixels
    sharpen : weight of what a blur of 1.4 of its pixels removes; opens the holes of 0, 6, 8 and 9
    returns : float64 (h, w), cropped to where it is not zero
    """
    zoom = 8
    field = np.pad(sample.astype(np.float64), 2)
    field = blurred(resized(field, zoom * field.shape[0], zoom * field.shape[1]), smooth * zoom)
    field = field + sharpen * (field - blurred(field, 1.4 * zoom))
    field = field / field.max()
    rows, columns = np.nonzero(field > level)
    scale = size / (max(np.ptp(rows), np.ptp(columns)) + 1)
    field = turned(field, angle_deg, scale, int(np.ceil(field.shape[0] * scale * 1.5)))
    # Distance to the outline in pixels, to first order: keeps the edge sharp at every size.
    down, across = np.gradient(field)
    slope = np.sqrt(down * down + across * across)
    alpha = np.clip((field - level) / np.maximum(slope, 1 / size) + 0.5, 0, 1)
    if blur_px > 0.1:
        alpha = blurred(alpha, blur_px)
    rows, columns = np.nonzero(alpha > 0.02)
    return alpha[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def paint(image: np.ndarray, alpha: Field, contrast: float, rng: np.random.Generator) -> np.ndarray:
    """Paints the digit in a random colour that contrasts with what is around and under it.

    image    : uint8 (H, W, 3) RGB;  alpha : float64 (H, W) in [0, 1]
    contrast : least distance of the colour's luma from the mean luma there, in grey levels, at most 127; four fifths of
               the pixels there are at least half as far
    """
    near = cv2.dilate((alpha > 0.02).astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    window = np.ix_(near.any(axis=1), near.any(axis=0))
    around = (image[window].astype(np.int64) * LUMA).sum(axis=2)[near[window]]
    mean, least = int(around.sum()) // len(around), contrast * 1000
    for _ in range(64):
        colour = rng.integers(0, 256, 3)
        grey = int((colour * LUMA).sum())
        if abs(grey - mean) >= least and np.sort(np.abs(around - grey))[(len(around) - 1) // 5] >= least / 2:
            break
    else:  # black or white is at least 127 levels away from any mean
        colour = np.full(3, 0 if mean > 127500 else 255)
    painted = image.copy()
    part = image[window].astype(np.float64)
    painted[window] = np.rint(part + alpha[window][..., None] * (colour - part)).astype(np.uint8)
    return painted
