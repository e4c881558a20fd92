"""Which regions of the training images are read: by SVMs all, by box regressors some. Features are stored of no others.

R regions of an image, S objects.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.boxes.assign import POSITIVE, assign
from lib.boxes.boxes import Boxes
from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings


class NormSample(Settings):
    """The mean norm that the features of a layer are scaled to, and the sample on which it is measured.

    target        : mean norm after scaling (authors: 20)
    images, boxes : random training images, and random regions in each (authors: 200 and 200)
    """

    target: float = Field(gt=0)
    images: int = Field(ge=1)
    boxes: int = Field(ge=1)


def pair(boxes: Boxes, objects: Boxes, more_than: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which boxes to learn from, and the object each is to be moved onto.

    boxes     : float32 (R, 4)  the objects themselves included, as in the original; they teach "do not move"
    objects   : float32 (S, 4)  of all classes; a sample belongs to the class of its object
    more_than : IoU with the best object must be above it: R-CNN 0.6, SPPnet 0.5
    returns   : int64 (n,) rows of boxes, ascending; int64 (n,) their objects: largest IoU, ties go to the first
    """
    assigned = assign(boxes, objects, more_than, more_than, best="none", strict=True)
    rows = np.flatnonzero(assigned.label == POSITIVE)
    return rows, assigned.object[rows]


def sampled_images(images: int, most: int, seed: int) -> NDArray[np.int64]:
    """Which images the norm is measured on: `most` of them, or all if there are fewer.

    returns : int64 (min(most, images),)  distinct, ascending, so that stored features are read in order
    """
    sample = np.random.default_rng(seed).permutation(images)[:most]
    return np.sort(sample).astype(np.int64)


def sampled_regions(regions: int, image: int, most: int, seed: int) -> NDArray[np.int64]:
    """Which regions of one image it is measured on: they depend on the seed and the image's number alone.

    returns : int64 (min(most, regions),)  distinct, in random order
    """
    return np.random.default_rng((seed, image)).permutation(regions)[:most].astype(np.int64)


class AllRegions:
    """The regions whose features SVMs read."""

    def mask(self, image: int, boxes: Boxes, objects: Boxes) -> NDArray[np.bool_]:
        """As `RegressorSample.mask`: all True."""
        return np.ones(len(boxes), bool)


@dataclass(frozen=True)
class RegressorSample:
    """The regions whose features box regressors read: those they learn from, and those that measure the scale.

    more_than : see `pair`;  norm, seed : see `sampled_images`, `sampled_regions`;  images : number of training images
    """

    more_than: float
    norm: NormSample
    seed: int
    images: int

    def mask(self, image: int, boxes: Boxes, objects: Boxes) -> NDArray[np.bool_]:
        """bool (R,): those of one image. image : its number;  boxes, objects : as in `pair`"""
        chosen = np.zeros(len(boxes), bool)
        chosen[pair(boxes, objects, self.more_than)[0]] = True
        if image in self._measured:
            chosen[sampled_regions(len(boxes), image, self.norm.boxes, self.seed)] = True
        return chosen

    @cached_property
    def _measured(self) -> frozenset[int]:
        return frozenset(sampled_images(self.images, self.norm.images, self.seed).tolist())


def readers(
    svms: str, regressors: Mapping[str, RegressorSample], known: Collection[str], where: str
) -> dict[str, AllRegions | RegressorSample]:
    """Layer -> the regions whose features are read of it.

    svms : the layer that SVMs read, of all regions;  regressors : the same of box regressors
    known : layers that the network has;  where : the method, for the InputError of a layer that is not among them
    """
    layers: dict[str, AllRegions | RegressorSample] = {**regressors, svms: AllRegions()}
    if unknown := sorted(layers.keys() - known):
        problem, remedy = f"is {unknown[0]}", "Change `layer` of its SVMs or of its regressors"
        raise InputError([Fault("unknown layer", f"params.yaml: {where}, layer", problem, ", ".join(known), remedy)])
    return layers
