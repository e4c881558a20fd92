"""How one handwritten digit looks in an image: its mask, enlarged from 8 × 8 pixels, and its colour."""

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # weights of R, G, B (ITU-R BT.601, as in JPEG)


def render(
    sample: np.ndarray, size: float, angle_deg: float, blur_px: float,
    level: float = 0.25, smooth: float = 0.25, sharpen: float = 3.0,
) -> np.ndarray:
    """The alpha mask of one digit with edges about a pixel wide.

    sample  : float (8, 8)  0 to 16, ink is high
    size    : longer side of the upright digit's ink
    level   : share of the highest ink at which the outline runs
    smooth  : sigma of the blur that removes the grid, in the sample's pixels
    sharpen : weight of what a blur of 1.4 of its pixels removes; opens the holes of 0, 6, 8 and 9
    returns : float32 (h, w), cropped to where it is not zero
    """
    zoom = 8
    field: np.ndarray = np.pad(sample.astype(np.float32), 2)
    field = cv2.resize(field, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    field = cv2.GaussianBlur(field, (0, 0), smooth * zoom)
    field = field + sharpen * (field - cv2.GaussianBlur(field, (0, 0), 1.4 * zoom))
    field = field / field.max()
    rows, columns = np.nonzero(field > level)
    scale = size / (max(np.ptp(rows), np.ptp(columns)) + 1)
    side = int(np.ceil(field.shape[0] * scale * 1.5))
    centre = (field.shape[0] - 1) / 2
    move = cv2.getRotationMatrix2D((centre, centre), angle_deg, scale)
    move[:, 2] += (side - 1) / 2 - centre
    field = cv2.warpAffine(field, move, (side, side), flags=cv2.INTER_LINEAR)
    # Distance to the outline in pixels, to first order: keeps the edge sharp at every size.
    slope = np.hypot(*np.gradient(field))
    alpha = np.clip((field - level) / np.maximum(slope, 1 / size) + 0.5, 0, 1).astype(np.float32)
    if blur_px > 0.1:
        alpha = cv2.GaussianBlur(alpha, (0, 0), blur_px)
    rows, columns = np.nonzero(alpha > 0.02)
    return alpha[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def paint(image: np.ndarray, alpha: np.ndarray, contrast: float, rng: np.random.Generator) -> np.ndarray:
    """Paints the digit in a random colour that contrasts with what is around and under it.

    image    : uint8 (H, W, 3) RGB;  alpha : float32 (H, W) in [0, 1]
    contrast : least distance of the colour's luma from the mean luma there, in grey levels, at most 127
    """
    near = cv2.dilate(alpha, np.ones((11, 11), np.uint8)) > 0.02
    window = np.ix_(near.any(axis=1), near.any(axis=0))
    around = (image[window] @ LUMA)[near[window]]
    mean = float(around.mean())
    for _ in range(64):
        colour = rng.integers(0, 256, 3).astype(np.float32)
        grey = float(colour @ LUMA)
        if abs(grey - mean) >= contrast and np.quantile(np.abs(around - grey), 0.2) >= contrast / 2:
            break
    else:  # black or white is at least 127 levels away from any mean
        colour = np.full(3, 0 if mean > 127.5 else 255, np.float32)
    painted = image.copy()
    painted[window] = np.rint(image[window] + alpha[window][..., None] * (colour - image[window])).astype(np.uint8)
    return painted
