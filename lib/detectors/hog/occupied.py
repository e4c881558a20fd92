"""Where the objects of the training images are, so that no negative lies on one.

K objects, R windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes, area, iou
from lib.storage import checkpoint, tables


@dataclass(frozen=True)
class Occupied:
    """Where no negative lies: on the objects of the training images, those marked difficult and crowd regions too.

    images : int64 (K,) number of each object's image, ascending;  boxes : float32 (K, 4)
    labels : int64 (K,) from 0;  crowd : bool (K,)
    """

    images: NDArray[np.int64]
    boxes: Boxes
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]

    @staticmethod
    def read(folder: Path, ids: Sequence[str], classes: Sequence[str]) -> "Occupied":
        """The objects of some images. folder : with objects.parquet;  ids : whose positions are the images' numbers"""
        objects = tables.read(folder / "objects.parquet", tables.OBJECTS)
        objects = objects[objects["image_id"].isin(ids)]
        images = objects["image_id"].map({image_id: number for number, image_id in enumerate(ids)}).to_numpy(np.int64)
        order = np.argsort(images, kind="stable")
        labels = objects["class"].map(list(classes).index).to_numpy(np.int64)
        return Occupied(
            images[order], tables.boxes(objects)[order], labels[order], objects["crowd"].to_numpy(bool)[order]
        )

    def overlaps(self, image: int, label: int, windows: Boxes) -> NDArray[np.float32]:
        """float32 (R,): of windows in an image, the largest IoU of each with an object of a class.

        Of a crowd region it is the window's share inside: COCO's rule.
        """
        own = np.arange(*np.searchsorted(self.images, [image, image + 1]))
        own = own[self.labels[own] == label]
        shares = iou(windows, self.boxes[own])
        for column in np.flatnonzero(self.crowd[own]).tolist():
            region = self.boxes[own[column]]
            inside = np.concatenate([np.maximum(windows[:, :2], region[:2]), np.minimum(windows[:, 2:], region[2:])], 1)
            shares[:, column] = area(inside) / np.maximum(area(windows), 1e-9)
        return shares.max(axis=1, initial=0).astype(np.float32)

    def sections(self) -> dict[str, Any]:
        """The same as contents of a file."""
        return {name: torch.from_numpy(array) for name, array in vars(self).items()}

    @staticmethod
    def load(path: Path) -> "Occupied":
        """Those of a file."""
        return Occupied(**{name: part.numpy() for name, part in checkpoint.load(path, "occupied")["occupied"].items()})
