"""Pictures of what a network looks at: maps over an image, the top regions of units, first-layer filters.

An image is uint8 H x W x 3 RGB.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.images.decode import Image
from lib.images.image_set import ImageSet
from lib.images.warp import place, warp
from lib.report import drawing
from lib.report.collect import NAMES
from lib.storage import checkpoint, tables
from lib.visualization.placing import Heat, scaled

TILE = 72  # pixels a side of a region
CONTEXT = 16  # of a crop of 227 pixels, R-CNN's
HEAD = 22  # pixels of a line of text
WIDTH = 320  # pixels of an image or a map
SIDES = {"after": "fine-tuned", "before": "the same unit before, of M0"}


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


def draw(folder: Path, image_set: ImageSet) -> None:
    """The pictures of a folder of `visualize` (see `lib/visualization/folder.py`), into it: `boxes/NN_K.png`,
    `units/CLASS.png`, `filters.png`, the first convolution after fine-tuning above that before."""
    for path in sorted((folder / "boxes").glob("*.json")):
        piece = tables.read_json(path)
        image = image_set.image(piece["image_id"])
        for rank, box in enumerate(piece["boxes"]):
            maps = checkpoint.load(path.with_name(f"{path.stem}_{rank}.pt"))
            picture = panel(image, box, {kind: share.float().numpy() for kind, share in maps.items()})
            drawing.write_png(path.with_name(f"{path.stem}_{rank}.png"), picture)
        if not piece["boxes"]:
            text = "no detection to explain"
            drawing.write_png(path.with_name(f"{path.stem}_0.png"), _titled(_resized(image, WIDTH), text))
    sides = {side: tables.read_json(folder / f"units/{side}.json") for side in SIDES}
    for name in dict.fromkeys(unit["class"] for unit in sides["after"]):
        rows = []
        for pair in zip(*sides.values(), strict=True):
            if pair[0]["class"] == name:
                rows += [_unit(text, unit, image_set) for text, unit in zip(SIDES.values(), pair, strict=True)]
        page = unit_page(f"Units that tell {name}", rows, max(1, *(len(regions) for _, regions in rows)))
        drawing.write_png(folder / f"units/{image_set.classes.index(name):03d}.png", page)
    weights = checkpoint.load(folder / "filters.pt")
    drawing.write_png(folder / "filters.png", np.vstack([filters(weights[side].numpy()) for side in SIDES]))


def panel(image: Image, explained: Mapping[str, Any], maps: Mapping[str, Heat]) -> Image:
    """The image with the box, green, and the object that it found, blue; then a tile for each map, four in a row. The
    tile shows the whole image, but where the box is small the box and twice as much around it, the same for all.

    explained : of a box, as in `boxes/NN.json`
    maps      : kind -> float32 (H, W), without positive values where there is no positive evidence: the tile says so
    """
    corners = [explained["box"], *([explained["object"]] if explained["object"] else [])]
    boxes = np.array(corners, np.float32)
    box = boxes[:1]
    found = "" if explained["object"] else ", on no object of its class"
    whole = drawing.draw(image, boxes, (), [drawing.GREEN, drawing.BLUE][: len(boxes)], 0.5)
    tiles = [_titled(_resized(whole, WIDTH), f"{explained['class']} {explained['score']:.2f}{found}")]
    for kind, heat in maps.items():
        text = NAMES[kind] if (heat > 0).any() else f"{NAMES[kind]}: no positive evidence"
        painted = drawing.draw(overlay(image, heat), box, (), drawing.GREEN, 0.5)
        tiles.append(_titled(_resized(painted, WIDTH), text))
    x1, y1, x2, y2 = _around(box[0], image.shape[1], image.shape[0])
    if (x2 - x1) * (y2 - y1) < image.shape[0] * image.shape[1] / 2:
        for kind, heat in maps.items():
            near = overlay(image, heat)[y1:y2, x1:x2]
            frame = cv2.resize(near, (WIDTH, WIDTH * image.shape[0] // image.shape[1]), interpolation=cv2.INTER_AREA)
            tiles.append(_titled(np.asarray(frame, np.uint8), f"{NAMES[kind]}, near the box"))
    return _grid(tiles, 4)


def _around(box: NDArray[np.float32], width: int, height: int) -> tuple[int, int, int, int]:
    """The part of the image, of its shape, that holds the box and as much again on each side, cut at the image."""
    factor = min(1.0, float(max((box[2] - box[0]) * 2 / width, (box[3] - box[1]) * 2 / height, 0.05)))
    sides = max(round(width * factor), 1), max(round(height * factor), 1)
    left = int(np.clip((box[0] + box[2] - sides[0]) / 2, 0, width - sides[0]))
    top = int(np.clip((box[1] + box[3] - sides[1]) / 2, 0, height - sides[1]))
    return left, top, left + sides[0], top + sides[1]


def _unit(text: str, unit: Mapping[str, Any], image_set: ImageSet) -> tuple[str, list[Region]]:
    largest, regions = unit["largest"], []
    for top in unit["tops"]:
        share = f"{top['value'] / largest:.1f}" if largest > 0 else "0"
        box, field = (np.array(top[name], np.float32) for name in ("box", "field"))
        regions.append(Region(image_set.image(top["image_id"]), box, field, share))
    right = sum(top["right"] for top in unit["tops"])
    return f"unit {unit['unit']}, {text}: {right} of {len(regions)} on {unit['class']}", regions


def _resized(image: Image, width: int) -> Image:
    height = max(round(image.shape[0] * width / image.shape[1]), 1)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def unit_page(title: str, rows: Sequence[tuple[str, Sequence[Region]]], most: int) -> Image:
    """The top regions of some units: a line of text and a row of regions each, their receptive fields in red.

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
    return drawing.draw(shown, field, [region.text], drawing.RED, 0.5)


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
