"""The maps of several strides from one pass of a backbone, for detectors that use several (SSD, RetinaNet)."""

from collections.abc import Mapping

from torch import Tensor, nn

from lib.backbones.frozen import FrozenNorm

DEEPEST = 32  # pixels per cell of the last map


class Levels(FrozenNorm):
    """Layers cut where a map is wanted; made by `Backbone.levels`, whose own layers these are.

    parts : stride -> the layers from the map of the stride before, ascending

    It can be folded, moved to a device and trained alone; the tensors of a model file come from the backbone.
    """

    def __init__(self, parts: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.strides = tuple(parts)
        self.parts = nn.ModuleList(parts.values())

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """float32 (N, 3, H, W) normalised -> stride -> map (N, C, h, w)."""
        maps, current = {}, images
        for stride, part in zip(self.strides, self.parts, strict=True):
            current = part(current)
            maps[stride] = current
        return maps
