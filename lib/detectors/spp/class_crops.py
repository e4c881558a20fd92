"""Crops of one object each, for training a classifier: the objects of a detection set, or a folder of images by class.

Each can be cut at any side from the same region, as SPPnet's two input sizes need it (paper §2.3). S side of a crop.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from lib.boxes.boxes import Boxes
from lib.images.decode import read_image
from lib.images.header import EXTENSIONS
from lib.images.image_set import ImageSet
from lib.images.warp import Crops, warp
from lib.stage.errors import Fault, InputError


class ClassCrops(Protocol):
    """What a classifier is trained on: `names[i]` for messages, `labels[i]` from 0 into `classes`.

    fixed : crop i is the same each time, `random` is not used
    """

    classes: list[str]
    names: list[str]
    labels: list[int]
    fixed: bool

    def cut(self, i: int, side: int, random: np.random.Generator) -> Crops:
        """One crop of `side` pixels."""


class ObjectCrops:
    """One crop per object of an image set, with context (R-CNN's warp)."""

    fixed = True

    def __init__(self, image_set: ImageSet, context: float) -> None:
        self._image_set, self._context = image_set, context
        self.classes = image_set.classes
        self.names: list[str] = []
        self.labels: list[int] = []
        self._boxes: list[Boxes] = []
        for image_id in image_set.ids:
            boxes, labels = image_set.objects(image_id)
            self.names += [image_id] * len(labels)
            self.labels += labels.tolist()
            self._boxes += list(boxes)
        if not self.names:
            raise InputError(
                [Fault("no objects", "data/tables", "holds no object in splits.train", "at least one", "Annotate some")]
            )

    def cut(self, i: int, side: int, random: np.random.Generator) -> Crops:
        """See `ClassCrops`."""
        return warp(self._image_set.image(self.names[i]), self._boxes[i][None], side, self._context)


class FolderCrops:
    """A random square out of each image of `FOLDER/CLASS/`.

    share : side of the square, as a share of the image's shorter side (paper §3.1: 224 of 256)
    """

    fixed = False

    def __init__(self, folder: Path, share: float) -> None:
        self._folder, self._share = folder, share
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        files = [
            (path.relative_to(folder).as_posix(), label)
            for label, name in enumerate(self.classes)
            for path in sorted((folder / name).iterdir())
            if path.suffix.lower() in EXTENSIONS
        ]
        if not files:
            raise InputError(
                [Fault("no images", f"spp.pretrain.folder: {folder}", "has no images in folders of classes",
                       f"CLASS/image, {', '.join(sorted(EXTENSIONS))}",
                       "Name another folder, or null for the objects' crops")]
            )
        self.names, self.labels = map(list, zip(*files, strict=True))

    def cut(self, i: int, side: int, random: np.random.Generator) -> Crops:
        """See `ClassCrops`."""
        image = read_image(self._folder, self.names[i], transpose=True)
        height, width = image.shape[:2]
        square = max(1, round(min(width, height) * self._share))
        x, y = random.integers(width - square + 1), random.integers(height - square + 1)
        return warp(image, np.array([[x, y, x + square, y + square]], np.float32), side, 0)


def epoch_rows(i: int, count: int, batch: int, permutation: Sequence[int]) -> Sequence[int]:
    """The crops of iteration i, of its epoch's `permutation` of `count` crops; an epoch's last batch may be short."""
    start = i % epoch_length(count, batch) * batch
    return permutation[start : start + batch]


def epoch_length(count: int, batch: int) -> int:
    """Iterations of an epoch, in which each of `count` crops is seen once."""
    return -(-count // batch)
