"""A network as it runs where nothing is learnt: the same function up to rounding, in fewer passes over memory."""

import copy
from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from lib.backbones.device import Device

Network = TypeVar("Network", bound=nn.Module)

JOINED: Mapping[type[nn.Module], tuple[str, list[float]]] = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}
"""Activations that oneDNN applies to what a convolution writes: its name and numbers for each."""


class FusedConv(nn.Conv2d):
    """A convolution and the activation behind it in one pass over memory, by oneDNN; has no gradient.

    conv : with numbers for padding;  activation : ReLU or ReLU6
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,  # type: ignore[arg-type]
            conv.dilation, conv.groups, conv.bias is not None, device="meta",  # type: ignore[arg-type]
        )
        self.weight, self.bias = conv.weight, conv.bias
        self._name, self._numbers = JOINED[type(activation)]

    @staticmethod
    def takes(conv: nn.Module, activation: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether the two are such a pair. A class of its own, as timm's with "same" padding, has its own `forward`."""
        if type(conv) is not nn.Conv2d or type(activation) not in JOINED:
            return False
        return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)

    def forward(self, maps: Tensor) -> Tensor:
        """float32 (N, C, H, W) -> float32 (N, D, h, w)."""
        fused: Any = torch.ops.mkldnn._convolution_pointwise
        shape = self.padding, self.stride, self.dilation, self.groups
        outputs: Tensor = fused(maps, self.weight, self.bias, *shape, self._name, self._numbers, "")
        return outputs


def fold_batch_norm(network: Network) -> Network:
    """A copy in evaluation mode, in which a batch norm registered right after a convolution is folded into it.

    Works for timm's norm-plus-activation layers too: the activation stays behind the convolution.
    """
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        children = list(module.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                plain = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
                activation = getattr(norm, "act", None)
                setattr(module, conv_name, nn.Sequential(plain, activation) if activation else plain)
                setattr(module, norm_name, nn.Identity())
    return folded


def for_inference(network: Network, device: Device) -> Network:
    """A copy on the device, without gradients: batch norm folded and, on a CPU in float32, each activation joined to
    the convolution before it."""
    copied = fold_batch_norm(network).requires_grad_(False)
    if device.torch_device.type == "cpu" and device.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        for module in list(copied.modules()):
            # What a Sequential holds runs in its order; of other modules only their `forward` knows.
            layers = [(name, layer) for name, layer in module.named_children() if not isinstance(layer, nn.Identity)]
            for (conv_name, conv), (name, layer) in zip(layers, layers[1:], strict=False):
                if isinstance(module, nn.Sequential) and FusedConv.takes(conv, layer):
                    setattr(module, conv_name, FusedConv(conv, layer))
                    setattr(module, name, nn.Identity())
    return copied.to(device.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
