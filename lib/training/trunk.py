"""A trunk as it runs while proposers are trained: leading parts frozen, batch norm constant.

Both save time and change nothing: what is frozen needs no gradient, and its map of an image is the same whenever the image
comes again; batch norm that stands still is taken into the convolutions (see `frozen_norm`).
"""

from collections.abc import Hashable
from threading import Lock

import torch
from torch import Tensor, nn

from lib.backbones.backbones import fold_batch_norm
from lib.backbones.frozen import freeze_norms
from lib.training.frozen_norm import through_frozen_norm


class TrainedTrunk:
    """The trunk `run` in training. Threads may share it.

    trunk       : is moved to `place`; training its parameters trains what is run here
    frozen      : leading parts without gradient; None for all of them
    kept_bytes  : of maps of the frozen parts that are kept for when an image comes again. The first that fit stay: were
                  the latest kept, a pass over a larger set would find none of them
    """

    def __init__(self, trunk: nn.Sequential, frozen: int | None, place: torch.device, kept_bytes: int = 0) -> None:
        trunk.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        parts = list(trunk)[: len(trunk) if frozen is None else frozen]
        for part in parts:
            part.requires_grad_(False)
        freeze_norms(trunk)
        self._frozen = fold_batch_norm(nn.Sequential(*parts))
        self._frozen.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._trained = through_frozen_norm(nn.Sequential(*list(trunk)[len(parts) :]).eval())
        self._kept: dict[Hashable, Tensor] = {}
        if place.type == "cuda":  # they stay on the device, whatever the computer itself could hold
            kept_bytes = min(kept_bytes, torch.cuda.mem_get_info(place)[0] // 4)
        self._room, self._lock = kept_bytes if parts else 0, Lock()

    def __call__(self, image: Tensor, key: Hashable = None) -> Tensor:
        """float32 (1, 3, H, W) -> map (1, channels, h, w), with a gradient for the parts that are not frozen.

        key : names the input, for the maps that are kept; None: do not keep
        """
        return self._trained(self._front(image, key))  # type: ignore[no-any-return]

    def _front(self, image: Tensor, key: Hashable) -> Tensor:
        with self._lock:
            if key is not None and key in self._kept:
                return self._kept[key]
        with torch.no_grad():
            maps: Tensor = self._frozen(image)
        size = maps.numel() * maps.element_size()
        if key is not None and size <= self._room:
            with self._lock:
                if key not in self._kept:
                    self._kept[key] = maps
                    self._room -= size
        return maps

    def __len__(self) -> int:
        """Maps that are kept."""
        return len(self._kept)
