"""What a template of oriented gradients looks for, as a star of lines in each cell (voc-dpm, vis/HOGpicture.m)."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.report.drawing import BLACK, Image, write_text

OVERSAMPLING = 4  # of the lines, which OpenCV would draw in steps


def stars(weights: NDArray[np.floating], angles: NDArray[np.floating], side: int = 24) -> NDArray[np.float32]:
    """float32 (H side, W side): in each cell a line for each direction, as bright as its weight; the largest where
    several cross.

    weights : (H, W, B) of 0 or more;  angles : (B,) of the gradients, degrees, y down
    side    : of a cell, pixels. A line lies along the edge, across the gradient
    """
    glyphs = np.zeros((len(angles), side, side), np.float32)
    centre, reach = (side - 1) / 2, side / 2 - 1
    for glyph, angle in zip(glyphs, np.radians(np.asarray(angles, float)), strict=True):
        along = np.array([-np.sin(angle), np.cos(angle)]) * reach
        large = np.zeros((side * OVERSAMPLING,) * 2, np.uint8)
        ends = [tuple(((centre + sign * along + 0.5) * OVERSAMPLING).round().astype(int).tolist()) for sign in (-1, 1)]
        cv2.line(large, ends[0], ends[1], 255, OVERSAMPLING * max(1, side // 12))
        glyph[:] = cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA) / 255
    rows, columns, _ = weights.shape
    picture = np.zeros((rows, side, columns, side), np.float32)
    for number, glyph in enumerate(glyphs):
        part = weights[:, :, number][:, None, :, None] * glyph[None, :, None, :]
        picture = np.maximum(picture, part)
    return picture.reshape(rows * side, columns * side)


def template(name: str, weights: NDArray[np.floating], angles: NDArray[np.floating], side: int = 24) -> Image:
    """uint8 RGB: what speaks for the class, on the left, and what speaks against it, on one scale, under the name.

    weights : (2, H, W, B) of 0 or more, for and against;  angles, side : as in `stars`
    """
    scale = 255 / max(float(weights.max()), 1e-12)
    parts = [np.rint(stars(part, angles, side) * scale).astype(np.uint8) for part in weights]
    gap = np.full((parts[0].shape[0], side // 2), 255, np.uint8)
    body = np.hstack([parts[0], gap, parts[1]])
    head = np.full((side, body.shape[1]), 255, np.uint8)
    picture = np.repeat(np.vstack([head, body])[:, :, None], 3, axis=2)
    write_text(picture, name, (2, side - 7), BLACK)
    return picture


def templates(contents: Mapping[str, Any]) -> list[Image]:
    """A picture of each template of a file of SVMs, as `template` draws it; none where the SVMs have no templates.

    contents : `templates` their names, `pictures` float32 (2, H, W, B) each, `angles` the degrees of the B gradients
    """
    pictures = zip(contents.get("templates", []), contents.get("pictures", []), strict=True)
    return [template(name, weights.numpy(), np.array(contents["angles"])) for name, weights in pictures]


def sheet(pictures: list[Image], across: int = 4) -> Image:
    """uint8 RGB: pictures in rows of `across`, each in a field of the size of the largest."""
    high, wide = (max(picture.shape[axis] for picture in pictures) + 12 for axis in (0, 1))
    down = -(-len(pictures) // across)
    page = np.full((down * high, min(across, len(pictures)) * wide, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // across * high, number % across * wide
        page[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return page
