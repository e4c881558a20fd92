"""What a YOLO score hangs on: the trunk's map, and the layers that predict all cells from it.

The score is the detection's own, a confidence times a class: both are linear outputs, so that no gradient vanishes
where the network is sure. Where one of them is not above 0 nothing speaks for the box.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from lib.backbones.device import Device
from lib.backbones.scaling import View
from lib.boxes.boxes import Boxes
from lib.detectors.dense.explain import ImageExplainer, LevelScorer
from lib.detectors.dense.network import DenseNetwork
from lib.detectors.yolo.network import Cells, YoloHead, corners, restore


class CellScorer(LevelScorer):
    """See `LevelScorer`; there is one level."""

    def __init__(self, network: DenseNetwork[YoloHead]) -> None:
        super().__init__()
        self.levels, self.head = network.levels, network.head

    def maps(self, images: Tensor, level: int) -> Tensor:
        """See `LevelScorer`."""
        trunk: dict[int, Tensor] = self.levels(images)
        return trunk[self.head.layers.stride]

    def forward(self, maps: Tensor, level: int) -> Tensor:
        """See `LevelScorer`."""
        return self.head.scores_of(self.head({self.head.layers.stride: maps}))


class Explainer(ImageExplainer[YoloHead]):
    """See `ImageExplainer`. files : by role: `model`;  margins : it has none"""

    def __init__(self, files: Mapping[str, Path], margins: bool, device: Device) -> None:
        super().__init__(files["model"], restore, CellScorer, device)

    def boxes(self, outputs: Cells, view: View) -> Boxes:
        """See `ImageExplainer`: box by box of each cell."""
        values, grid = self.head.boxes_of(outputs)[0].cpu().numpy(), self.head.grid
        return view.original(corners(values, np.arange(len(values)) // grid.boxes, grid.cells, self.head.side))

    def counts(self, outputs: Cells) -> Sequence[int]:
        """See `ImageExplainer`."""
        return [outputs.confidences[0].numel()]
