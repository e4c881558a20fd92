"""What an SSD score hangs on: the map of its level, before it is scaled, and the convolution that predicts there."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from torch import Tensor

from lib.backbones.device import Device
from lib.detectors.dense.explain import AnchorExplainer
from lib.detectors.dense.network import DenseNetwork, predict
from lib.detectors.ssd.network import FC_STRIDE, SsdHead, restore
from lib.detectors.target import Layers


class Explainer(AnchorExplainer[SsdHead]):
    """See `ImageExplainer`. files : by role: `model`;  margins : it has none"""

    def __init__(self, files: Mapping[str, Path], margins: bool, device: Device) -> None:
        super().__init__(files["model"], restore, device)

    def cells(self, level: int) -> tuple[Layers, Layers]:
        """See `ImageExplainer`."""
        return level_map(level), level_map(level)

    def scores(self, head: SsdHead, maps: Tensor, level: int) -> Tensor:
        """See `ImageExplainer`."""
        source = head.l2[level](maps) if level < len(head.l2) else maps
        return predict(head.scores[level], source, head.form.outputs)[..., -head.form.classes :]


@cache
def level_map(level: int) -> Layers:
    """The function that makes a level's map: of the trunk, or by further layers on its last one."""

    def maps(network: DenseNetwork[SsdHead], images: Tensor) -> Tensor:
        head, trunk = network.head, network.levels(images)
        stride = head.strides[min(level, len(head.strides) - 1)]
        current: Tensor = head.fc(trunk[stride]) if stride == FC_STRIDE else trunk[stride]
        for extra in head.extra[: max(level - len(head.strides) + 1, 0)]:
            current = extra(current)
        return current

    return maps
