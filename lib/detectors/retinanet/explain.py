"""What a RetinaNet score hangs on: its level of the pyramid, and the subnet that scores there.

The ReLU between two levels that the pyramid adds is no module, so that no rule for gradients holds there.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lib.backbones.device import Device
from lib.detectors.dense.explain import AnchorExplainer, LevelScorer
from lib.detectors.dense.network import DenseNetwork, predict
from lib.detectors.retinanet.network import RetinaHead, restore


class PyramidScorer(LevelScorer):
    """See `LevelScorer`."""

    def __init__(self, network: DenseNetwork[RetinaHead]) -> None:
        super().__init__()
        head = network.head
        self.levels, self.pyramid = network.levels, head.pyramid
        self.tower, self.scores = head.score_tower, head.scores
        self._strides, self._values = head.strides, head.form.outputs

    def maps(self, images: Tensor, level: int) -> Tensor:
        """See `LevelScorer`."""
        trunk = self.levels(images)
        levels: list[Tensor] = self.pyramid([trunk[stride] for stride in self._strides])
        return levels[level]

    def grid(self, images: Tensor, level: int) -> Tensor:
        """See `LevelScorer`: the trunk's map. What comes from above is the same for several cells of the pyramid."""
        if level >= len(self._strides):
            return self.maps(images, level)
        trunk: dict[int, Tensor] = self.levels(images)
        return trunk[self._strides[level]]

    def forward(self, maps: Tensor, level: int) -> Tensor:
        """See `LevelScorer`."""
        return predict(self.scores, self.tower(maps), self._values)


class Explainer(AnchorExplainer[RetinaHead]):
    """See `AnchorExplainer`. files : by role: `model`;  margins : it has none"""

    def __init__(self, files: Mapping[str, Path], margins: bool, device: Device) -> None:
        super().__init__(files["model"], restore, PyramidScorer, device)
