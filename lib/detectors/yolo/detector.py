"""YOLO at test time (Redmon et al. 2016, §2): all boxes of all cells in one pass, scored by their cell's classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.backbones.device import Device, Precision
from lib.backbones.scaling import View
from lib.boxes.selection import Scored, Selection
from lib.detectors.dense.detector import ImageDetector
from lib.detectors.yolo.network import Cells, YoloHead, corners, restore
from lib.parallel.clock import Clock


class Detect(Selection):
    """Block `yolo.detect`: which boxes become detections, and

    precision : of the forward pass
    """

    precision: Precision


Proposing = Detect  # one block: its regions are its detections


class Detector(ImageDetector[YoloHead]):
    """See `ImageDetector`. files : by role: `model`;  settings : block `yolo.detect`"""

    def __init__(self, files: Mapping[str, Path], settings: Detect, device: Device, clock: Clock) -> None:
        super().__init__(files["model"], restore, settings.floor, device, clock)

    def located(
        self, used: NDArray[np.int64], boxes: NDArray[np.float32], scores: NDArray[np.float32], outputs: Cells,
        view: View,
    ) -> Scored:
        """The boxes in the original image, final as they are, with the cell and the predictor that each comes from."""
        cell, predictor = np.divmod(used, self.head.grid.boxes)
        decoded = view.original(corners(boxes, cell, self.head.grid.cells, self.head.side))
        return Scored(decoded, scores, origin={"cell": cell, "predictor": predictor})
