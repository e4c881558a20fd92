"""Which windows stand for the objects of a class, and what they learn from: warped objects and random windows.

The size of a template follows voc-dpm, model/root_model.m, its positives train/warppos.m. K objects, T templates.
"""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lib.boxes.boxes import Boxes, area, flip, iou
from lib.detectors.hog.features import Descriptor
from lib.detectors.hog.network import window
from lib.detectors.hog.pyramid import Level, Pyramid, Store, Template, boxes
from lib.images.decode import Image
from lib.images.image_set import ImageSet
from lib.stage.params import Settings


class WindowSettings(Settings):
    """Block `hog.windows`.

    components : templates of a class, for so many groups of its objects by aspect, of equal size (DPM: 3)
    percentile : of the objects' areas that a template has, fraction (DPM: 0.2)
    cells      : fewest and most cells of a template, its margin left out (DPM: 3000 and 5000 pixels of cells of 8)
    margin     : cells around the object, on each side (Dalal, Triggs: 2; DPM: 0)
    smallest   : objects of a smaller fraction of a template's pixels are no positives (DPM: 0.25)
    mirror     : learn from mirrored objects too (both papers: yes)
    negatives  : random windows of a template, over all images (Dalal, Triggs: 12180)
    apart      : IoU with every object of the class that they stay below
    """

    components: int = Field(ge=1, le=8)
    percentile: float = Field(gt=0, le=1)
    cells: list[float] = Field(min_length=2, max_length=2)
    margin: int = Field(ge=0, le=8)
    smallest: float = Field(ge=0)
    mirror: bool
    negatives: int = Field(ge=1)
    apart: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _ascending(self) -> "WindowSettings":
        if not 9 <= self.cells[0] <= self.cells[1]:
            raise ValueError(f"cells of at least 9, the fewest first; they are {list(self.cells)}")
        return self


def common_aspect(objects: Boxes) -> float:
    """Height by width where the histogram of its logarithm, smoothed, is highest; ties go to the flattest."""
    sides = np.asarray(objects, np.float64)[:, 2:] - objects[:, :2]
    centres = np.arange(-100, 101) / 50
    places = np.clip(np.rint(np.log(sides[:, 1] / sides[:, 0]) * 50), -100, 100).astype(int) + 100
    counts = np.bincount(places, minlength=len(centres))
    kernel = np.exp(-(np.arange(-100, 101) ** 2) / 400)
    return float(np.exp(centres[np.argmax(np.convolve(counts, kernel, "same").round(9))]))


def template(label: int, objects: Boxes, settings: WindowSettings, cell: int) -> Template:
    """The window of some objects of a class. objects : float32 (K, 4), K > 0;  cell : pixels"""
    aspect, areas = common_aspect(objects), np.sort(area(objects))
    pixels = areas[max(int(settings.percentile * len(areas) + 1e-9), 1) - 1]
    pixels = np.clip(pixels, *np.array(settings.cells) * cell**2)
    wide = math.sqrt(pixels / aspect)
    rows, columns = (max(3, math.floor(side / cell + 0.5)) for side in (wide * aspect, wide))
    margin = settings.margin
    return Template(label, rows + 2 * margin, columns + 2 * margin, margin)


def groups(objects: Boxes, components: int) -> list[NDArray[np.int64]]:
    """Rows of the objects by aspect, from flat to tall, in equal groups; at most as many as objects."""
    sides = np.asarray(objects, np.float64)[:, 2:] - objects[:, :2]
    order = np.argsort(sides[:, 1] / sides[:, 0], kind="stable")
    return [np.sort(part) for part in np.array_split(order, min(components, len(order))) if len(part)]


def warped(image: Image, box: NDArray[np.float32], shape: Template, descriptor: Descriptor) -> NDArray[np.float32]:
    """float32 (length,): the features of an object, its axes stretched to the template's.

    A cell more on each side is cut out and described, and left out, as windows inside an image have neighbours. Beyond
    the image its border goes on.
    """
    high, wide = shape.rows - 2 * shape.margin, shape.columns - 2 * shape.margin
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    step_x, step_y = (x2 - x1) / wide, (y2 - y1) / high  # of a cell, in the image
    around = shape.margin + 1
    left, right = round(x1 - around * step_x), round(x2 + around * step_x)
    top, bottom = round(y1 - around * step_y), round(y2 + around * step_y)
    height, width = image.shape[:2]
    rows = np.clip(np.arange(top, max(bottom, top + 1)), 0, height - 1)
    columns = np.clip(np.arange(left, max(right, left + 1)), 0, width - 1)
    crop = np.ascontiguousarray(image[rows[:, None], columns])
    size = (shape.columns + 2) * descriptor.cell, (shape.rows + 2) * descriptor.cell
    shrinks = size[0] < crop.shape[1] or size[1] < crop.shape[0]
    pixels = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    first, (down, across) = 1 - descriptor.first, shape.places(descriptor)
    return descriptor(pixels)[first : first + down, first : first + across].reshape(-1)


def counts(shape: Template, levels: Sequence[Level], descriptor: Descriptor, padding: int) -> NDArray[np.int64]:
    """int64 (L, 2): rows and columns of windows in each level; 0 where none fits."""
    down, across = shape.places(descriptor)
    sides = [(level.rows + 2 * padding - down + 1, level.columns + 2 * padding - across + 1) for level in levels]
    return np.maximum(np.array(sides, np.int64).reshape(-1, 2), 0)


def best_overlaps(
    objects: Boxes, shape: Template, levels: Sequence[Level], descriptor: Descriptor, padding: int
) -> NDArray[np.float64]:
    """float64 (K,): the largest IoU of each object with any window of the template; 0 where there is no window."""
    best = np.zeros(len(objects))
    centres = (np.asarray(objects, np.float64)[:, :2] + objects[:, 2:]) / 2
    for level, (down, across) in zip(levels, counts(shape, levels, descriptor, padding).tolist(), strict=True):
        if not down or not across:
            continue
        origin = boxes(shape, level, np.zeros(1), np.zeros(1), descriptor.cell, descriptor.first)[0].astype(np.float64)
        step = descriptor.cell / np.array([level.x, level.y])
        place = (centres - (origin[:2] + origin[2:]) / 2) / step
        for right in (0, 1):
            for lower in (0, 1):
                column = np.clip(np.floor(place[:, 0]) + right, -padding, across - padding - 1)
                row = np.clip(np.floor(place[:, 1]) + lower, -padding, down - padding - 1)
                windows = boxes(shape, level, row, column, descriptor.cell, descriptor.first)
                best = np.maximum(best, _iou(windows, objects))
    return best


def _iou(windows: Boxes, objects: Boxes) -> NDArray[np.float64]:
    """float64 (K,): of each window with the object of its row."""
    sides = np.minimum(windows[:, 2:], objects[:, 2:]).astype(np.float64) - np.maximum(windows[:, :2], objects[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    return np.asarray(shared / (area(windows) + area(objects) - shared))


def drawn(
    shape: Template, levels: Sequence[Level], descriptor: Descriptor, padding: int, objects: Boxes, apart: float,
    count: int, random: np.random.Generator,
) -> NDArray[np.int64]:
    """int64 (at most count, 3): level, row and column of random windows, distinct, all equally likely.

    Only those whose IoU with each object is below `apart` stay. row, column : from -padding
    """
    sides = counts(shape, levels, descriptor, padding)
    ends = np.cumsum(sides.prod(axis=1))
    total = int(ends[-1]) if len(ends) else 0
    numbers = np.sort(random.permutation(total)[:count])
    level = np.searchsorted(ends, numbers, side="right")
    within = numbers - np.where(level > 0, ends[level - 1], 0)
    row, column = within // sides[level, 1] - padding, within % sides[level, 1] - padding
    windows = np.concatenate(
        [np.zeros((0, 4), np.float32)]
        + [boxes(shape, levels[place], row[[k]], column[[k]], descriptor.cell, descriptor.first)
           for k, place in enumerate(level.tolist())]
    )
    free = (iou(windows, objects) < apart).all(axis=1)
    return np.stack([level, row, column], axis=1)[free].astype(np.int64)


class Collection:
    """The templates of all classes, and what they learn from, image by image.

    images : with the objects;  templates : class by class, without those that have no object
    """

    def __init__(
        self, images: ImageSet, descriptor: Descriptor, pyramid: Pyramid, settings: WindowSettings
    ) -> None:
        self._images, self._settings = images, settings
        self._descriptor, self._pyramid = descriptor, pyramid
        parts = [images.objects(image_id) for image_id in images.ids]
        self._boxes = np.concatenate([objects for objects, _ in parts])
        labels = np.concatenate([labels for _, labels in parts])
        self._image = np.repeat(np.arange(len(parts)), [len(labels) for _, labels in parts])
        self._own: list[NDArray[np.int64]] = []  # of each template
        self.templates: list[Template] = []
        for label in np.unique(labels).tolist():
            rows = np.flatnonzero(labels == label)
            for group in groups(self._boxes[rows], settings.components):
                self._own.append(rows[group])
                self.templates.append(template(label, self._boxes[rows[group]], settings, descriptor.cell))
        self._large = [
            area(self._boxes[rows]) >= settings.smallest * _pixels(shape, descriptor.cell)
            for rows, shape in zip(self._own, self.templates, strict=True)
        ]
        self._positives: list[list[NDArray[np.float16]]] = [[] for _ in self.templates]
        self._negatives: list[list[NDArray[np.float16]]] = [[] for _ in self.templates]

    def fit(self) -> list[dict[str, Any]]:
        """For each template its size in cells, its objects, how many of them are large enough to learn from, and with
        how many some window of the pyramid has an IoU of 0.5; the others it can never find."""
        rows = []
        sizes = set(map(self._images.size, self._images.ids))
        levels = {size: self._pyramid.levels(*size, self._descriptor) for size in sizes}
        for shape, own, large in zip(self.templates, self._own, self._large, strict=True):
            best = [
                best_overlaps(
                    self._boxes[own[self._image[own] == image]], shape, levels[self._images.size(image_id)],
                    self._descriptor, self._pyramid.padding,
                )
                for image, image_id in enumerate(self._images.ids)
            ]
            fits = int((np.concatenate(best) >= 0.5).sum())
            rows.append({
                "template": "", "rows": shape.rows, "columns": shape.columns, "objects": len(own),
                "positives": int(large.sum()), "fits": fits,
            })
        return rows

    def memory(self, lengths: Sequence[int]) -> int:
        """Bytes of all samples, given the features of each template's windows."""
        positives = [int(large.sum()) * (1 + self._settings.mirror) for large in self._large]
        return sum(2 * length * (count + self._settings.negatives)
                   for length, count in zip(lengths, positives, strict=True))

    def add(self, number: int, store: Store, random: np.random.Generator) -> None:
        """Takes the samples of an image. number : of the image;  store : with its places"""
        image_id = self._images.ids[number]
        size, image = self._images.size(image_id), self._images.image(image_id)
        levels, places = store.levels(size), store.read(image_id, size)
        objects, labels = self._images.objects(image_id)
        share = (self._settings.negatives * np.array([number, number + 1])) // len(self._images)
        padding = self._pyramid.padding
        for index, shape in enumerate(self.templates):
            rows = self._own[index][self._large[index]]
            for row in rows[self._image[rows] == number].tolist():
                box = self._boxes[row]
                self._positives[index].append(warped(image, box, shape, self._descriptor).astype(np.float16))
                if self._settings.mirror:
                    mirrored = np.ascontiguousarray(image[:, ::-1]), flip(box[None], size[0])[0]
                    self._positives[index].append(warped(*mirrored, shape, self._descriptor).astype(np.float16))
            own, down_across = objects[labels == shape.label], shape.places(self._descriptor)
            at = drawn(
                shape, levels, self._descriptor, padding, own, self._settings.apart, int(share[1] - share[0]), random
            )
            self._negatives[index] += [
                window(places[level], row + padding, column + padding, down_across).astype(np.float16)
                for level, row, column in at.tolist()
            ]

    def samples(self) -> dict[str, list[NDArray[np.float16]]]:
        """`positives` and `negatives` of each template, float16 (n, length)."""
        kept = {"positives": self._positives, "negatives": self._negatives}
        lengths = [int(np.prod(shape.places(self._descriptor))) * self._descriptor.width for shape in self.templates]
        return {
            name: [np.array(rows, np.float16).reshape(-1, length) for rows, length in zip(parts, lengths, strict=True)]
            for name, parts in kept.items()
        }


def _pixels(shape: Template, cell: int) -> int:
    """Of a template without its margin."""
    return (shape.rows - 2 * shape.margin) * (shape.columns - 2 * shape.margin) * cell**2
