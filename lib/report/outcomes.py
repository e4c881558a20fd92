"""What an average precision is counted from: each class's detections in order, right or wrong, and its objects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import IGNORED, RIGHT, match


@dataclass(frozen=True)
class OfClass:
    """image : int64 (D,) index of the image of each detection, highest score first; right : bool (D,)

    Detections that are ignored are left out, and those after the last right one: no average precision, of any sample of
    the images, depends on them.
    """

    image: NDArray[np.int64]
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """images  : the test images, sorted
    classes : name -> outcomes of its detections
    objects : name -> int64 (R,) index of the image of each object that has to be found
    """

    images: list[str]
    classes: dict[str, OfClass]
    objects: dict[str, NDArray[np.int64]]

    @classmethod
    def of(cls, inputs: Inputs, iou_threshold: float = 0.5) -> "Outcomes":
        """Of a table of detections; a match reaches the IoU threshold."""
        outcome, detections = match(inputs, iou_threshold).outcome, inputs.detections
        classes: dict[str, OfClass] = {}
        for label, name in enumerate(inputs.classes):
            scored = (detections.label == label) & (outcome != IGNORED)
            right = outcome[scored] == RIGHT
            end = len(right) - int(np.argmax(right[::-1])) if right.any() else 0
            classes[name] = OfClass(detections.image[scored][:end], right[:end])
        return cls(inputs.images, classes, objects(inputs))

    def same(self, other: "Outcomes") -> bool:
        """Whether both are outcomes of the same detections on the same images."""
        return self.images == other.images and self.classes.keys() == other.classes.keys() and all(
            np.array_equal(mine.image, other.classes[name].image) and np.array_equal(mine.right, theirs.right)
            for name, mine in self.classes.items()
            for theirs in [other.classes[name]]
        )


def objects(inputs: Inputs) -> dict[str, NDArray[np.int64]]:
    """Class -> index of the image of each object that has to be found."""
    counted: NDArray[np.bool_] = inputs.objects.counted
    return {
        name: inputs.objects.image[(inputs.objects.label == label) & counted]
        for label, name in enumerate(inputs.classes)
    }


def common_images(outcomes: Sequence[Outcomes]) -> int:
    """The number of images that all were run on. Raises ValueError where they differ."""
    if len({tuple(item.images) for item in outcomes}) > 1:
        raise ValueError("the methods were run on different images, so their resamples cannot be paired")
    return len(outcomes[0].images)
