"""A trunk as it runs while a network on its map is trained: leading parts frozen, batch norm frozen.

Both save time and change no result: frozen parts need no gradient and give the same map whenever an image comes again;
frozen batch norm is folded into the convolutions (see `frozen_norm`).
"""

from collections.abc import Hashable
from threading import Lock

import torch
from torch import Tensor, nn

from lib.backbones.frozen import freeze_norms
from lib.backbones.inference import fold_batch_norm
from lib.training.frozen_norm import through_frozen_norm


class TrainedTrunk:
    """The trunk as it runs in training. Threads may share it.

    trunk       : is moved to `torch_device`; it shares its parameters with what runs here
    frozen      : leading parts without gradient; None for all of them
    kept_bytes  : for maps of the frozen parts, kept for the next pass. The first maps that fit stay: if the latest were
                  kept, a pass over a larger set would find none of its own
    """

    def __init__(
        self, trunk: nn.Sequential, frozen: int | None, torch_device: torch.device, kept_bytes: int = 0
    ) -> None:
        trunk.to(torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        parts = list(trunk)[: len(trunk) if frozen is None else frozen]
        for part in parts:
            part.requires_grad_(False)
        freeze_norms(trunk)
        self._frozen = fold_batch_norm(nn.Sequential(*parts))
        self._frozen.to(torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._trained = through_frozen_norm(nn.Sequential(*list(trunk)[len(parts) :]).eval())
        self._maps: dict[Hashable, Tensor] = {}
        if torch_device.type == "cuda":  # they stay on the device, whatever the main memory could hold
            kept_bytes = min(kept_bytes, torch.cuda.mem_get_info(torch_device)[0] // 4)
        self._free_bytes, self._lock = kept_bytes if parts else 0, Lock()

    def __call__(self, image: Tensor, key: Hashable = None) -> Tensor:
        """float32 (1, 3, H, W) -> map (1, channels, h, w), with a gradient for the parts that are not frozen.

        key : names the input, for the maps that are kept; None: do not keep
        """
        return self._trained(self._front(image, key))  # type: ignore[no-any-return]

    def _front(self, image: Tensor, key: Hashable) -> Tensor:
        with self._lock:
            if key is not None and key in self._maps:
                return self._maps[key]
        with torch.no_grad():
            maps: Tensor = self._frozen(image)
        size = maps.numel() * maps.element_size()
        if key is not None and size <= self._free_bytes:
            with self._lock:
                if key not in self._maps:
                    self._maps[key] = maps
                    self._free_bytes -= size
        return maps

    def __len__(self) -> int:
        """Maps that are kept."""
        return len(self._maps)
