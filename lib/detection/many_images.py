"""A detector over many images: what `detect` and `predict` share, from the pixels to the kept candidates.

R regions of an image, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lib.backbones.device import Device
from lib.boxes.boxes import Boxes
from lib.detection.candidates import Candidates
from lib.images.decode import Image
from lib.linear.files import Refine
from lib.parallel.ahead import ahead
from lib.parallel.clock import Clock

Scored = tuple[Boxes, NDArray[np.float32], Refine]


class Detector(Protocol):
    """What `lib/detectors/METHOD.py` calls `Detector`: read-only, may be called from several threads."""

    classes: list[str]
    wants_proposals: bool

    def prepare(self, image: Image, boxes: Boxes | None) -> Any:
        """The part that needs no network. boxes : float32 (R, 4), or None where the detector makes its own regions."""

    def __call__(self, prepared: Any) -> Scored:
        """Boxes float32 (R, 4), scores float32 (R, C) with minus infinity for "no score", and the boxes' `refine`."""


def detect(
    detector: Detector,
    todo: Sequence[str],
    read: Callable[[str], Image],
    regions: Callable[[str, Image], Boxes] | None,
    candidates: Candidates,
    clock: Clock,
    place: Device,
    workers: int,
) -> Iterator[str]:
    """Gives the candidates of the images `todo`, in order, to `candidates`; yields each image's key when it is done.

    The first image is run once before the clock counts: kernels compile and libraries choose their algorithms on it.

    read    : the decoded image of a key;  regions : its proposals, None where the detector makes its own
    workers : images at once, where the device allows it; the result does not depend on it
    """

    def scored(image_id: str) -> tuple[str, tuple[int, int], Scored]:
        with clock("decode"):
            image = read(image_id)
        boxes = None if regions is None else regions(image_id, image)
        return image_id, (image.shape[1], image.shape[0]), detector(detector.prepare(image, boxes))

    if todo:
        scored(todo[0])
        clock.reset()
    for image_id, size, (boxes, scores, refine) in ahead(scored, todo, *place.side_by_side(workers)):
        with clock("select"):
            candidates.add(image_id, size, boxes, scores, refine)
        yield image_id
