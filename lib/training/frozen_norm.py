"""Convolutions trained through a frozen batch norm, in one pass instead of two.

A frozen batch norm is a factor and a summand of each channel. Multiplying the weights by that factor in the forward
pass is the same function with the same gradients, and saves a second reading and writing of each map, forward and
backward. K kernels.
"""

import copy

import torch
from torch import Tensor, nn


class _Folded(nn.Module):
    """The convolution with weights times `factor` (K,) and bias `shift` (K,); the weights are those of `conv`."""

    factor: Tensor
    shift: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_var is not None
        assert norm.running_mean is not None
        factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
        self.register_buffer("factor", factor.view(-1, 1, 1, 1))
        self.register_buffer("shift", (norm.bias - norm.running_mean * factor).detach())
        self.conv = conv

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv._conv_forward(maps, self.conv.weight * self.factor, self.shift)


def through_frozen_norm(network: nn.Module) -> nn.Module:
    """A copy in which a batch norm registered right after a convolution is folded into it.

    Its parameters are the network's own: training the copy trains the network. Convolutions with a bias of their own,
    and those that pad in their forward pass, are left as they are.
    """
    shared = copy.deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})
    for module in list(shared.modules()):
        children = list(module.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            if type(conv) is nn.Conv2d and conv.bias is None and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, _Folded(conv, norm))
                setattr(module, norm_name, getattr(norm, "act", nn.Identity()))
    return shared
