"""What a RetinaNet score hangs on: its level of the pyramid, and the subnet that scores there.

The ReLU between two levels that the pyramid adds is no module, so that no rule for gradients holds there.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from torch import Tensor

from lib.backbones.device import Device
from lib.detectors.dense.explain import AnchorExplainer
from lib.detectors.dense.network import DenseNetwork, predict
from lib.detectors.retinanet.network import RetinaHead, restore
from lib.detectors.target import Layers


class Explainer(AnchorExplainer[RetinaHead]):
    """See `ImageExplainer`. files : by role: `model`;  margins : it has none"""

    def __init__(self, files: Mapping[str, Path], margins: bool, device: Device) -> None:
        super().__init__(files["model"], restore, device)

    def cells(self, level: int) -> tuple[Layers, Layers]:
        """See `ImageExplainer`. A cell of the pyramid lies where that of the trunk does: what comes from above reaches
        further, and is the same for several cells."""
        added = level >= len(self.head.strides)
        return level_map(level), level_map(level) if added else trunk_map(self.head.strides[level])

    def scores(self, head: RetinaHead, maps: Tensor, level: int) -> Tensor:
        """See `ImageExplainer`."""
        return predict(head.scores, head.score_tower(maps), head.form.outputs)[..., -head.form.classes :]


@cache
def level_map(level: int) -> Layers:
    """The function that makes a level of the pyramid."""

    def maps(network: DenseNetwork[RetinaHead], images: Tensor) -> Tensor:
        trunk = network.levels(images)
        return network.head.pyramid.forward([trunk[stride] for stride in network.head.strides])[level]

    return maps


@cache
def trunk_map(stride: int) -> Layers:
    """The function that makes the trunk's map of a stride."""

    def maps(network: DenseNetwork[RetinaHead], images: Tensor) -> Tensor:
        trunk: Mapping[int, Tensor] = network.levels(images)
        return trunk[stride]

    return maps
