"""Frozen batch norm: detectors see one or two images at a time, too few for statistics of a batch."""

from collections.abc import Iterator
from typing import Self

from torch import nn


def norms(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    """Every batch norm of a network, timm's norm-plus-activation layers among them."""
    return (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def freeze_norms(network: nn.Module) -> None:
    """No gradient for the scale and the shift of any batch norm; the layers before it are still trained."""
    for norm in norms(network):
        norm.requires_grad_(False)


class FrozenNorm(nn.Module):
    """Base of networks whose batch norms keep the statistics that they were trained with, in training too."""

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode, for everything but the batch norms, which stay in evaluation mode."""
        super().train(mode)
        for norm in norms(self):
            norm.eval()
        return self
