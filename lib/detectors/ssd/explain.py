"""What an SSD score hangs on: the map of its level, before it is scaled, and the convolution that predicts there."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lib.backbones.device import Device
from lib.detectors.dense.explain import AnchorExplainer, LevelScorer
from lib.detectors.dense.network import DenseNetwork, predict
from lib.detectors.ssd.network import FC_STRIDE, SsdHead, restore


class SsdScorer(LevelScorer):
    """See `LevelScorer`."""

    def __init__(self, network: DenseNetwork[SsdHead]) -> None:
        super().__init__()
        head = network.head
        self.levels, self.fc, self.extra = network.levels, head.fc, head.extra
        self.l2, self.scores = head.l2, head.scores
        self._strides, self._values = head.strides, head.form.outputs

    def maps(self, images: Tensor, level: int) -> Tensor:
        """See `LevelScorer`: of the trunk, or by further layers on its last one."""
        last = len(self._strides) - 1
        stride = self._strides[min(level, last)]
        current: Tensor = self.levels(images)[stride]
        if stride == FC_STRIDE:
            current = self.fc(current)
        for extra in self.extra[: max(level - last, 0)]:
            current = extra(current)
        return current

    def forward(self, maps: Tensor, level: int) -> Tensor:
        """See `LevelScorer`."""
        source = self.l2[level](maps) if level < len(self.l2) else maps
        return predict(self.scores[level], source, self._values)


class Explainer(AnchorExplainer[SsdHead]):
    """See `AnchorExplainer`. files : by role: `model`;  margins : it has none"""

    def __init__(self, files: Mapping[str, Path], margins: bool, device: Device) -> None:
        super().__init__(files["model"], restore, SsdScorer, device)
