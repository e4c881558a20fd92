"""What the templates learn from: the objects as windows of their size, and random windows.

The positives follow voc-dpm, train/warppos.m, or Dalal and Triggs, whose windows keep the aspect of the image.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import area, flip
from lib.detectors.hog.features import Descriptor
from lib.detectors.hog.occupied import Occupied
from lib.detectors.hog.pyramid import Pyramid, Template
from lib.detectors.hog.windows import WindowSettings, best_overlaps, drawn, groups, template
from lib.images.decode import Image
from lib.images.image_set import ImageSet
from lib.stage.errors import Fault, InputError

Box = NDArray[np.float64]
BORDER = 2  # cells that votes and norms of Felzenszwalb's cells come from (DPM: 1; Dalal and Triggs need 1)


def aligned(box: NDArray[np.floating], shape: Template) -> Box:
    """float64 (4,): the box of the template's aspect with the centre and the area of another."""
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    high, wide = shape.rows - 2 * shape.margin, shape.columns - 2 * shape.margin
    half = np.sqrt((x2 - x1) * (y2 - y1) / (high * wide)) * np.array([wide, high]) / 2
    centre = np.array([x1 + x2, y1 + y2]) / 2
    return np.concatenate([centre - half, centre + half])


def moved(box: Box, shape: Template, octave: int, random: np.random.Generator) -> Box:
    """float64 (4,): the box shifted by up to half a cell along each axis, its sides by up to half a level."""
    cells = np.array([shape.columns - 2 * shape.margin, shape.rows - 2 * shape.margin])
    sides = box[2:] - box[:2]
    centre = (box[:2] + box[2:]) / 2 + random.uniform(-0.5, 0.5, 2) * sides / cells
    half = sides * 2 ** random.uniform(-0.5 / octave, 0.5 / octave) / 2
    return np.concatenate([centre - half, centre + half])


def warped(image: Image, box: NDArray[np.floating], shape: Template, descriptor: Descriptor) -> NDArray[np.float32]:
    """float32 (length,): the features of what is in a box, its axes stretched to the template's.

    Some cells more on each side are cut out and described, and left out, as windows in an image have neighbours. Beyond
    the image its border goes on.
    """
    high, wide = shape.rows - 2 * shape.margin, shape.columns - 2 * shape.margin
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    step_x, step_y = (x2 - x1) / wide, (y2 - y1) / high  # of a cell, in the image
    around = shape.margin + BORDER
    left, right = round(x1 - around * step_x), round(x2 + around * step_x)
    top, bottom = round(y1 - around * step_y), round(y2 + around * step_y)
    height, width = image.shape[:2]
    rows = np.clip(np.arange(top, max(bottom, top + 1)), 0, height - 1)
    columns = np.clip(np.arange(left, max(right, left + 1)), 0, width - 1)
    crop = np.ascontiguousarray(image[rows[:, None], columns])
    size = (shape.columns + 2 * BORDER) * descriptor.cell, (shape.rows + 2 * BORDER) * descriptor.cell
    # One axis may shrink and the other grow: OpenCV's averages over areas are none where a side grows.
    shrunk = cv2.resize(crop, (min(size[0], crop.shape[1]), min(size[1], crop.shape[0])), interpolation=cv2.INTER_AREA)
    pixels = np.asarray(cv2.resize(shrunk, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    first, (down, across) = BORDER - descriptor.first, shape.places(descriptor)
    return descriptor(pixels)[first : first + down, first : first + across].reshape(-1)


class Collection:
    """The templates of all classes, and what they learn from, image by image.

    images : with the objects to learn from;  occupied : where no negative lies
    templates : class by class, without those that have no object

    Raises InputError where no class has an object, or a block does not fit a template.
    """

    def __init__(
        self, images: ImageSet, occupied: Occupied, descriptor: Descriptor, pyramid: Pyramid, settings: WindowSettings
    ) -> None:
        self._images, self._occupied, self._settings = images, occupied, settings
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
        self._refuse()
        self._large = [
            rows[area(self._boxes[rows]) >= settings.smallest * _pixels(shape, descriptor.cell)]
            for rows, shape in zip(self._own, self.templates, strict=True)
        ]
        views = settings.copies * (1 + settings.mirror)
        self._positives = [
            np.zeros((len(large) * views, int(np.prod(shape.places(descriptor))) * descriptor.width), np.float16)
            for large, shape in zip(self._large, self.templates, strict=True)
        ]
        self._filled = [0] * len(self.templates)
        self._negatives: list[list[NDArray[np.int64]]] = [[np.zeros((0, 4), np.int64)] for _ in self.templates]

    def _refuse(self) -> None:
        """Raises InputError where there is no template, or one without a place."""
        if not self.templates:
            fault = Fault("no objects", "the training splits", "hold no object of any class to learn from",
                          "at least one", "Change splits.train, or set hog.difficult: true")
            raise InputError([fault])
        faults = [
            Fault("no place", "params.yaml: hog.descriptor.block",
                  f"is larger than the template of {self._images.classes[shape.label]}, "
                  f"{shape.rows} x {shape.columns} cells", f"at most {min(shape.rows, shape.columns)}",
                  "Lower it, or raise hog.windows.cells or hog.windows.margin")
            for shape in self.templates if min(shape.places(self._descriptor)) < 1
        ]
        if faults:
            raise InputError(faults)

    @property
    def memory(self) -> int:
        """Bytes of the positives, and of the two copies of them that a file is made through."""
        return 3 * sum(rows.nbytes for rows in self._positives)

    @property
    def objects(self) -> list[int]:
        """How many objects each template learns from."""
        return list(map(len, self._large))

    def fit(self) -> list[dict[str, Any]]:
        """For each template its size in cells, its objects, how many of them are large enough to learn from, and with
        how many some window of the pyramid has an IoU of 0.5; the others it can never find."""
        rows = []
        for shape, own, large in zip(self.templates, self._own, self._large, strict=True):
            fits = 0
            for image in np.unique(self._image[own]).tolist():
                levels = self._pyramid.levels(*self._images.size(self._images.ids[image]), self._descriptor)
                objects = self._boxes[own[self._image[own] == image]]
                best = best_overlaps(objects, shape, levels, self._descriptor, self._pyramid.padding)
                fits += int((best >= 0.5).sum())
            rows.append({
                "template": "", "rows": shape.rows, "columns": shape.columns, "objects": len(own),
                "positives": len(large), "fits": fits,
            })
        return rows

    def add(self, number: int, random: np.random.Generator) -> None:
        """Takes the samples of an image. number : of the image"""
        image_id = self._images.ids[number]
        levels = self._pyramid.levels(*self._images.size(image_id), self._descriptor)
        share = (self._settings.negatives * np.array([number, number + 1])) // len(self._images)
        padding = self._pyramid.padding
        has_objects = (self._image == number).any()
        image = self._images.image(image_id) if has_objects else np.zeros((0, 0, 3), np.uint8)  # nobody looks at it
        for index, shape in enumerate(self.templates):
            large = self._large[index]
            for row in large[self._image[large] == number].tolist():
                views = self._views(image, row, shape, random)
                first = self._filled[index]
                self._positives[index][first : first + len(views)] = views
                self._filled[index] += len(views)
            at, boxes = drawn(shape, levels, self._descriptor, padding, int(share[1] - share[0]), random)
            free = at[self._occupied.overlaps(number, shape.label, boxes) < self._settings.apart]
            self._negatives[index].append(np.insert(free + np.array([0, padding, padding]), 0, number, axis=1))

    def _views(
        self, image: Image, row: int, shape: Template, random: np.random.Generator
    ) -> list[NDArray[np.float32]]:
        """The positives of one object."""
        settings, box = self._settings, self._boxes[row].astype(np.float64)
        box = aligned(box, shape) if settings.aspect == "kept" else box
        copies = [box, *(moved(box, shape, self._pyramid.octave, random) for _ in range(settings.copies - 1))]
        views = [(image, copy) for copy in copies]
        if settings.mirror:
            mirrored = np.ascontiguousarray(image[:, ::-1])
            views += [(mirrored, flip(copy[None].astype(np.float32), image.shape[1])[0]) for copy in copies]
        return [warped(pixels, copy, shape, self._descriptor) for pixels, copy in views]

    def samples(self) -> dict[str, list[NDArray[Any]]]:
        """Of each template `positives`, float16 (n, length), and `negatives`, int64 (n, 4): which windows, by their
        image, level, row and column among `padded` places."""
        return {"positives": self._positives, "negatives": [np.concatenate(parts) for parts in self._negatives]}


def _pixels(shape: Template, cell: int) -> int:
    """Of a template without its margin."""
    return (shape.rows - 2 * shape.margin) * (shape.columns - 2 * shape.margin) * cell**2
