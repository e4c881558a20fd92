"""R-CNN's sets of windows and its batches (R-CNN paper §2.3; Caffe's window_data_layer.cpp).

C classes without background; labels are 0 for background and 1 to C.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes, class_overlaps
from lib.stage.errors import Fault, InputError


@dataclass(frozen=True)
class Windows:
    """Windows of many images in compact arrays.

    image : int32 (W,) position of the image;  boxes : float32 (W, 4);  label : int16 (W,)
    """

    image: NDArray[np.int32]
    boxes: Boxes
    label: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "Windows":
        return Windows(self.image[rows], self.boxes[rows], self.label[rows])


@dataclass
class WindowSets:
    """Two sets of windows over all images and classes, foreground and background, filled image by image.

    foreground : IoU at or above which a window takes the class of its best object (ties: the first class)
    background : IoU below which a window is background; there is no lower bound, 0 is included
    """

    foreground: float
    background: float
    _parts: tuple[list[Windows], list[Windows]] = field(default_factory=lambda: ([], []))

    def add(self, image: int, boxes: Boxes, best: NDArray[np.float32]) -> None:
        """The windows of one image.

        image : its position;  boxes : float32 (R, 4), objects included;  best : float32 (R, C) from `class_overlaps`
        """
        top = best.max(axis=1, initial=0.0)
        label = best.argmax(axis=1) + 1 if best.size else np.zeros(len(boxes), np.int64)
        for parts, rows, labels in (
            (self._parts[0], top >= self.foreground, label),
            (self._parts[1], (top < self.background) & (top < self.foreground), np.zeros_like(label)),
        ):
            parts.append(
                Windows(
                    np.full(int(rows.sum()), image, np.int32), boxes[rows].astype(np.float32),
                    labels[rows].astype(np.int16),
                )
            )

    def add_image(
        self, image: int, objects: Boxes, labels: NDArray[np.int64], proposals: Boxes, classes: int
    ) -> None:
        """`add` for the objects of an image and its proposals; labels are from 0."""
        boxes = np.concatenate([objects, proposals])
        self.add(image, boxes, class_overlaps(boxes, objects, labels, classes))

    def join(self) -> tuple[Windows, Windows]:
        """The foreground and the background windows."""
        foreground, background = (
            Windows(
                np.concatenate([part.image for part in parts] or [np.zeros(0, np.int32)]),
                np.concatenate([part.boxes for part in parts] or [np.zeros((0, 4), np.float32)]),
                np.concatenate([part.label for part in parts] or [np.zeros(0, np.int16)]),
            )
            for parts in self._parts
        )
        return foreground, background


def a_pass(window_sets: tuple[Windows, Windows], size: int, foreground_share: float) -> tuple[int, int]:
    """What `Optimisation.resolved` takes of a training on windows: in a pass as many foreground windows are drawn as
    there are; background, of which there is any amount, counts only where no foreground is drawn.

    returns : the windows of a pass, and those of them in a batch
    """
    foreground, background = window_sets
    positives = _positives(window_sets, size, foreground_share)
    return (len(foreground), positives) if positives else (len(background), size)


def _positives(window_sets: tuple[Windows, Windows], size: int, foreground_share: float) -> int:
    """Foreground windows of a batch. If one set is empty, the other fills it."""
    foreground, background = window_sets
    if not len(background):
        return size
    return int(size * foreground_share) if len(foreground) else 0


def sample_windows(
    window_sets: tuple[Windows, Windows], size: int, foreground_share: float, mirror: float, random: np.random.Generator
) -> tuple[Windows, NDArray[np.bool_]]:
    """One batch: background first, then floor(size · share) foreground windows, uniform with replacement.

    If one set is empty, the other fills the batch.
    returns : the windows, and bool (size,) which of them to mirror, each with probability `mirror`
    raises  : InputError where both are empty
    """
    foreground, background = window_sets
    if not len(foreground) and not len(background):
        raise InputError([Fault("no windows", "fine-tuning", "no region of any image is foreground or background", "",
                                "Lower foreground, raise background, or give a table with more proposals")])
    positives = _positives(window_sets, size, foreground_share)
    parts = [
        (background, random.integers(max(len(background), 1), size=size - positives)),
        (foreground, random.integers(max(len(foreground), 1), size=positives)),
    ]
    batch = Windows(
        np.concatenate([windows.image[rows] for windows, rows in parts if len(rows)]),
        np.concatenate([windows.boxes[rows] for windows, rows in parts if len(rows)]),
        np.concatenate([windows.label[rows] for windows, rows in parts if len(rows)]),
    )
    return batch, random.random(len(batch)) < mirror
