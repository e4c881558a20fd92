"""Fully connected layers as products of two thin ones (Fast R-CNN §3.1; the authors' compress_net.py)."""

from collections.abc import Sequence

import torch
from torch import nn


def truncate(layer: nn.Linear, rank: int) -> nn.Sequential:
    """The best approximation of a layer by two: the first without bias, the second with the layer's, nothing between.

    layer   : weight float32 (out, in);  rank : t, at most the smaller of the two
    returns : Linear (in -> t) with Σ Vᵀ and Linear (t -> out) with U, for the t largest singular values

    U holds the eigenvectors of W Wᵀ, and Σ Vᵀ = Uᵀ W: the product of an SVD of W, in a tenth of its time.
    """
    thin, wide = pair = _pair(layer, rank)
    weight = layer.weight.detach().double()
    u = torch.linalg.eigh(weight @ weight.T).eigenvectors.flip(1)[:, :rank]
    thin.load_state_dict({"weight": u.T @ weight})
    wide.load_state_dict({"weight": u, "bias": layer.bias.detach()})
    return pair


def fully_connected(layers: nn.Module) -> list[str]:
    """Names of the linear layers among the children of `region_layers`' module: fc6, fc7; none for a resnet."""
    return [name for name, layer in layers.named_children() if isinstance(layer, nn.Linear)]


def compress(layers: nn.Module, ranks: Sequence[int]) -> list[dict[str, float | int | str]]:
    """Replaces fc6 and fc7 by their truncations, in place.

    ranks   : of fc6 and fc7
    returns : of each layer its name, numbers of weights before and after, and the share kept of its squared norm
    Raises ValueError where the numbers of layers and ranks differ, or a rank is not between 1 and the layer's.
    """
    names = fully_connected(layers)
    if len(names) != len(ranks):
        raise ValueError(f"{len(names)} fully connected layers for {len(ranks)} ranks")
    report: list[dict[str, float | int | str]] = []
    for name, rank, label in zip(names, ranks, ("fc6", "fc7"), strict=False):
        layer = layers.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        if not 1 <= rank <= min(layer.weight.shape):
            raise ValueError(f"rank {rank} of {label}, which is {layer.out_features} x {layer.in_features}")
        pair = truncate(layer, rank)
        setattr(layers, name, pair)
        thin, wide = (part.weight.detach().double() for part in pair.children() if isinstance(part, nn.Linear))
        share = float(thin.square().sum() / layer.weight.detach().double().square().sum())
        report.append(
            {"layer": label, "rank": rank, "weights_before": layer.weight.numel(),
             "weights_after": thin.numel() + wide.numel(), "kept": round(share, 6)}
        )
    return report


def restore_ranks(layers: nn.Module, ranks: Sequence[int]) -> None:
    """Layers of the shapes that `compress` makes, with random weights, in place."""
    for name, rank in zip(fully_connected(layers), ranks, strict=True):
        setattr(layers, name, _pair(layers.get_submodule(name), rank))  # type: ignore[arg-type]


def _pair(layer: nn.Linear, rank: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features))
