"""A trunk as it runs while detectors are trained: leading parts frozen, batch norm constant.

Both save time and change nothing: what is frozen needs no gradient, and a constant batch norm is a factor on the weights
of the convolution before it, so its passes over memory, forward and backward, fall away.
"""

import copy
import itertools
from collections.abc import Hashable
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib.nets.backbones import fold_batch_norm


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
        self._frozen = fold_batch_norm(nn.Sequential(*parts))
        self._frozen.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._trained = _scaled(nn.Sequential(*list(trunk)[len(parts) :]))
        self._kept: dict[Hashable, Tensor] = {}
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


class _Times(nn.Module):
    """The weights of a convolution times one factor for each of its outputs."""

    factor: Tensor

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor.view(-1, 1, 1, 1), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factor


def _scaled(network: nn.Module) -> nn.Module:
    """A copy with the parameters of `network` itself, whose convolutions apply the batch norm that stands after them."""
    shared = {id(parameter): parameter for parameter in network.parameters()}
    twin = copy.deepcopy(network, shared).eval()  # type: ignore[arg-type]
    for module in list(twin.modules()):
        for (_, conv), (name, norm) in itertools.pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and conv.bias is None:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.requires_grad_(False)
                factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                parametrize.register_parametrization(conv, "weight", _Times(factor))
                del conv.bias
                conv.register_buffer("bias", norm.bias - norm.running_mean * factor, persistent=False)
                setattr(module, name, getattr(norm, "act", nn.Identity()))
    return twin
