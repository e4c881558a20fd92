"""Pictures of what a network looks at: maps over an image, the top regions of units, first-layer filters.

An image is uint8 H x W x 3 RGB.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes
from lib.images.decode import Image
from lib.images.warp import place, warp
from lib.report import drawing
from lib.visualization.placing import Heat, scaled

TILE = 72  # pixels a side of a region
CONTEXT = 16  # of a crop of 227 pixels, R-CNN's
HEAD = 22  # pixels of a line of text


class Region(NamedTuple):
    """A region of an image that excites a unit. image : it;  box, field : float32 (4,) in it;  text : in the corner"""

    image: Image
    box: NDArray[np.float32]
    field: NDArray[np.float32]
    text: str


def overlay(image: Image, heat: Heat) -> Image:
    """The image in grey under the map: from clear to yellow, orange and black red at its largest value, as shares of
    it. A sequential colour map, which unlike a rainbow has no edges of its own.  heat : float32 (H, W)"""
    share = scaled(heat)[..., None]
    grey = cv2.cvtColor(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    colours = cv2.applyColorMap((255 - 255 * share).astype(np.uint8), cv2.COLORMAP_HOT)
    painted = cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)
    return np.asarray((1 - share**0.5) * grey + share**0.5 * painted, np.uint8)


def panel(image: Image, boxes: Boxes, title: str, maps: Mapping[str, Heat]) -> Image:
    """The image with the box, then a tile for each map, four in a row.

    boxes : float32 (1 or 2, 4) the box, and the object that it found;  maps : name -> float32 (H, W), at most 0 where
    there is no positive evidence, which the tile then says;  title : over the image
    """
    colours = [drawing.GREEN, drawing.BLUE][: len(boxes)]
    tiles = [_titled(drawing.draw(image, boxes, (), colours), title)]
    for name, heat in maps.items():
        text = name if (heat > 0).any() else f"{name}: no positive evidence"
        tiles.append(_titled(drawing.draw(overlay(image, heat), boxes[:1], (), drawing.GREEN, 0.5), text))
    return _grid(tiles, 4)


def note(image: Image, text: str) -> Image:
    """The image under a line of text, where there is nothing to explain."""
    return _titled(image, text)


def unit_page(title: str, rows: Sequence[tuple[str, Sequence[Region]]], most: int) -> Image:
    """The top regions of some units: a line of text and a row of regions each, their receptive fields in white.

    rows : text, at most `most` regions, the best first
    """
    width = most * (TILE + 2)
    parts = [_line(title, width)]
    for text, regions in rows:
        tiles = [_region(region) for region in regions]
        tiles += [np.full((TILE, TILE, 3), 255, np.uint8)] * (most - len(tiles))
        parts += [_line(text, width), _grid(tiles, most, 2)[:, :width]]
    return np.vstack(parts)


def filters(weights: NDArray[np.float32], columns: int = 16) -> Image:
    """The filters of a first convolution, by falling norm, on one scale: grey is 0. With a scale of its own a dead
    filter would look alive.  weights : float32 (K, 3, k, k)"""
    order = np.argsort(-np.square(weights).sum((1, 2, 3)), kind="stable")
    largest = max(float(np.abs(weights).max()), 1e-12)
    shares = (0.5 + weights[order] / (2 * largest)).transpose(0, 2, 3, 1)
    side = max(32 // weights.shape[2], 1) * weights.shape[2]
    tiles = [
        cv2.resize(np.round(255 * tile).astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        for tile in shares
    ]
    return _grid([np.asarray(tile, np.uint8) for tile in tiles], columns, 2)


def _region(region: Region) -> Image:
    height, width = region.image.shape[:2]
    crops = warp(region.image, region.box[None], TILE, CONTEXT)
    tile = crops.pixels[0].copy()
    x1, y1, x2, y2 = crops.covered[0].tolist()
    shown = np.full_like(tile, 128)
    shown[y1:y2, x1:x2] = tile[y1:y2, x1:x2]
    source = place(region.box[None], width, height, TILE, CONTEXT).source[0]
    low, step = source[:2], (crops.covered[0, 2:] - crops.covered[0, :2]) / (source[2:] - source[:2])
    field = (region.field.reshape(2, 2) - low) * step + crops.covered[0, :2]
    field = np.clip(field, 0, TILE).astype(np.float32).reshape(1, 4)
    return drawing.draw(shown, field, [region.text], drawing.WHITE, 0.5)


def _titled(image: Image, text: str) -> Image:
    return np.vstack([_line(text, image.shape[1]), image])


def _line(text: str, width: int) -> Image:
    line = np.full((HEAD, width, 3), 255, np.uint8)
    cv2.putText(line, text, (3, HEAD - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, drawing.BLACK, 1, cv2.LINE_AA)
    return line


def _grid(tiles: Sequence[Image], columns: int, gap: int = 4) -> Image:
    """Tiles of one size, row by row on white."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap), columns * (width + gap), 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet
