"""Boxes with labels on images, and a panel of one image with its objects, proposals and detections.

An image is uint8 H x W x 3 RGB, boxes are half-open pixels; R boxes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes
from lib.evaluation.matching import IGNORED, RIGHT, WRONG
from lib.storage.tables import boxes as boxes_of
from lib.storage.tables import write_atomic

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

GREEN = (0, 170, 60)
RED = (225, 30, 30)
GREY = (150, 150, 150)
BLUE = (30, 110, 230)
WHITE = (255, 255, 255)
BLACK = (0, 0, 0)
OUTCOME_COLOURS: dict[int, Colour] = {RIGHT: GREEN, WRONG: RED, IGNORED: GREY}
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw(
    image: Image,
    boxes: Boxes,
    labels: Sequence[str] = (),
    colours: Sequence[Colour] | Colour = GREEN,
    scale: float | None = None,
) -> Image:
    """A copy of the image with boxes on it; later boxes lie on top.

    image   : uint8 (H, W, 3) RGB
    boxes   : float32 (R, 4); parts outside the image are not drawn
    labels  : R texts, or none at all; each is above its box, or inside where there is no room
    colours : R colours, or one for all; RGB
    scale   : size of lines and letters; None: from the image (1 at 640 pixels on the longer side)
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    box_colours = _one_for_each(colours, len(boxes))
    if len(labels) not in (0, len(boxes)) or len(box_colours) != len(boxes):
        raise ValueError(
            f"{len(boxes)} boxes, {len(labels)} labels and {len(box_colours)} colours do not match in number"
        )
    canvas = np.ascontiguousarray(image).copy()
    size = scale if scale is not None else _scale(image)
    corners = _corners(boxes, image.shape[1], image.shape[0])
    for (left, top, right, bottom), colour in zip(corners, box_colours, strict=True):
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, max(1, round(2 * size)))
    # Labels come last, or the boxes drawn later would cross them out.
    for (left, top, _, _), colour, label in zip(corners, box_colours, labels, strict=False):
        _tag(canvas, label, left, top, colour, size)
    return canvas


def draw_best(image: Image, detections: pd.DataFrame, most: int, min_score: float) -> Image:
    """A copy of the image with its best detections, each labelled with its class and score; the best lies on top.

    detections : tables.DETECTIONS, rows of this image
    most       : most boxes;  min_score : least score of a box
    """
    best = detections.nlargest(most, "score", keep="first")
    best = best[best["score"] >= min_score][::-1]
    labels = [f"{name} {score:.2f}" for name, score in zip(best["class"], best["score"], strict=True)]
    return draw(image, boxes_of(best), labels)


def panel(
    image: Image,
    objects: tuple[Boxes, Sequence[str]],
    proposals: Boxes,
    detections: tuple[Boxes, Sequence[str], NDArray[np.floating], NDArray[np.int8]],
    titles: tuple[str, str, str] = ("objects", "proposals", "detections"),
) -> Image:
    """One image three times, side by side under titles: its objects, its best proposals, its detections.

    objects    : boxes and their classes
    proposals  : boxes to show
    detections : boxes, classes, scores and outcomes (matching.RIGHT green, WRONG red, IGNORED grey)
    returns    : uint8 (H + title, 3 W + 2 gaps, 3)
    """
    boxes, classes, scores, outcomes = detections
    order = np.argsort(scores, kind="stable")  # the best ones on top
    labels = [f"{classes[i]} {scores[i]:.2f}" for i in order]
    colours = [OUTCOME_COLOURS[int(outcomes[i])] for i in order]
    pictures = [
        draw(image, objects[0], objects[1], BLUE),
        draw(image, proposals, (), BLUE, _scale(image) / 2),
        draw(image, np.asarray(boxes).reshape(-1, 4)[order], labels, colours),
    ]
    gap = np.full((image.shape[0], max(4, image.shape[1] // 80), 3), 255, np.uint8)
    body = np.hstack([pictures[0], gap, pictures[1], gap, pictures[2]])
    size = 1.4 * _scale(image)
    (_, height), _ = cv2.getTextSize("Ag", _FONT, _letters(size), _stroke(size))
    head = np.full((2 * height, body.shape[1], 3), 255, np.uint8)
    for number, title in enumerate(titles):
        left = number * (image.shape[1] + gap.shape[1]) + height // 2
        _write(head, title, (left, height + height // 2), BLACK, size)
    return np.vstack([head, body])


def encode_png(image: Image) -> bytes:
    """The image (uint8 RGB) as the bytes of a PNG file, the same bytes for the same pixels."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"an image of shape {image.shape} and type {image.dtype} cannot be written as PNG")
    return bytes(data)


def write_png(path: Path, image: Image) -> None:
    """Write the image (uint8 RGB) as PNG, whole or not at all."""
    data = encode_png(image)
    write_atomic(path, lambda file: file.write(data))


def write_text(canvas: Image, text: str, position: tuple[int, int], colour: Colour) -> None:
    """Writes small letters on a picture, in place. position : left and lower end of the text, pixels"""
    _write(canvas, text, position, colour, 0.8)


def _one_for_each(colours: Sequence[Colour] | Colour, count: int) -> list[Colour]:
    """One colour for each box, from a single colour or from one per box."""
    if len(colours) == 3 and all(isinstance(value, int) for value in colours):
        return [cast(Colour, colours)] * count
    return list(cast(Sequence[Colour], colours))


def _scale(image: Image) -> float:
    return float(np.clip(max(image.shape[:2]) / 640, 0.6, 3))


def _letters(size: float) -> float:
    return max(0.38, 0.5 * size)


def _stroke(size: float) -> int:
    return max(1, round(1.2 * size))


def _corners(boxes: Boxes, width: int, height: int) -> list[list[int]]:
    """First and last pixel of each box, drawn at the border where the box leaves the image."""
    inner = np.round(boxes).astype(np.int64) - [0, 0, 1, 1]
    return np.clip(inner, 0, [width - 1, height - 1, width - 1, height - 1]).tolist()


def _tag(canvas: Image, text: str, left: int, top: int, colour: Colour, size: float) -> None:
    """White letters on a patch of the box's colour, kept inside the image."""
    (width, height), base = cv2.getTextSize(text, _FONT, _letters(size), _stroke(size))
    width, height = width + 2, height + base + 2
    left = max(0, min(left, canvas.shape[1] - width))
    bottom = top if top >= height else top + height
    cv2.rectangle(canvas, (left, bottom - height), (left + width, bottom), colour, cv2.FILLED)
    _write(canvas, text, (left + 1, bottom - base), WHITE, size)


def _write(canvas: Image, text: str, position: tuple[int, int], colour: Colour, size: float) -> None:
    cv2.putText(canvas, text, position, _FONT, _letters(size), colour, _stroke(size), cv2.LINE_AA)
