"""One score of a detector as a function of its network's input: what `lib/visualization` takes apart.

Each paper's `explain.py` has an `Explainer` that makes these. It runs for pictures alone, apart from `detector.py`, so
that an edit of it detects nothing again. N inputs, R regions, C channels, H W sides of an input, h w of a map, D
features.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.boxes.boxes import Boxes
from lib.images.decode import Image
from lib.storage import checkpoint

N = TypeVar("N", bound=nn.Module)
Layers = Callable[[Any, Tensor], Tensor]  # of a network, the explainer's own class, and what goes into it


@dataclass(frozen=True)
class Target:
    """The score of one box under one class.

    network : in evaluation mode and float32, its layers registered from input to output. `maps` and `score` are given
              it, or a copy of it with other weights or another rule for gradients
    maps    : (network, inputs (N, 3, H, W)) -> float32 (N, C, h, w), the last map of the shared trunk, or of the box's
              level; the same function for all targets of one map
    score   : (network, maps) -> float32 (N,): a logit or an SVM's margin, never a probability, whose gradient
              vanishes where the network is sure
    grid    : as `maps`, of a map whose cells lie where those of `maps` do and see no further: mostly `maps` itself
    inputs  : float32 (1, 3, H, W) as the network takes it, 0 the mean colour
    window  : float32 (4,) what the input shows, x1 y1 x2 y2 in pixels of the image; of a crop it may reach beyond it
    box     : float32 (4,) the box, in pixels of the image
    """

    network: nn.Module
    maps: Layers
    score: Layers
    grid: Layers
    inputs: Tensor
    window: NDArray[np.float32]
    box: NDArray[np.float32]

    def __call__(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """float32 (N, 3, H, W) -> scores (N,)."""
        return self.score(network, self.maps(network, inputs))

    def to_input(self, boxes: Boxes) -> NDArray[np.float64]:
        """float (R, 4) in pixels of the image -> in pixels of the input, not clipped to it."""
        low, high = self.window[:2].astype(np.float64), self.window[2:].astype(np.float64)
        sides = np.array([self.inputs.shape[3], self.inputs.shape[2]])
        return ((boxes.reshape(-1, 2, 2) - low) * sides / (high - low)).reshape(-1, 4)


@dataclass(frozen=True)
class Units:
    """The pooled features of some regions of an image.

    network, maps : as of a `Target`; the map here is the one that is pooled
    sides   : H and W of an input
    cells   : float32 (N, C, h, w), leaf of the graph;  pooled : float32 (R, C, g, g), which hangs on `cells`
    windows : float32 (N, 4) what each input shows;  input_of : int64 (R,) the input of each region
    """

    network: nn.Module
    maps: Layers
    sides: tuple[int, int]
    cells: Tensor
    pooled: Tensor
    windows: NDArray[np.float32]
    input_of: NDArray[np.int64]


class Explainer(Protocol):
    """What each `explain.py` calls `Explainer`: made of the same files, settings and device as the `Detector`, without
    its settings for proposals."""

    classes: list[str]

    def __call__(self, image: Image, box: NDArray[np.float32], label: int) -> Target:
        """The score of a region or a detection, float32 (4,) in pixels of the image, under class `label`, from 0."""

    def units(self, image: Image, boxes: Boxes) -> Units:
        """The features that regions are told apart by, float32 (R, 4) in pixels of the image; R at least 1."""

    def before(self, m0: Path) -> "Explainer":
        """The same with M0's trunk in place of its own, the network before it was fine-tuned."""

    @property
    def filters(self) -> Tensor:
        """float32 (K, 3, k, k): the first convolution."""


def svm(path: Path, classes: list[str]) -> tuple[str, nn.Linear]:
    """A file of SVMs as a layer on unscaled features: the name of the features, and margins (N, D) -> (N, C).

    Raises InputError where the file is none of `lib.linear.files.save_classifiers`.
    """
    contents = checkpoint.load(path, "layer", "scale", "weights", "bias")
    return contents["layer"], linear(contents["weights"] * contents["scale"], contents["bias"])


def linear(weights: Tensor, bias: Tensor) -> nn.Linear:
    """A layer with these weights (C, D) and bias (C,)."""
    layer = nn.Linear(weights.shape[1], weights.shape[0])
    layer.load_state_dict({"weight": weights.float(), "bias": bias.float()})
    return layer


def first_convolution(network: nn.Module) -> Tensor:
    """float32 (K, 3, k, k): the weights of the first layer that sees pixels."""
    return next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d)).weight.detach()


def with_layer(network: N, name: str, layer: nn.Module) -> N:
    """A copy of a network, without gradients of its weights, whose layer `name` is another one, in the same place of
    their order; all others are shared."""
    changed = copy.copy(network)
    changed._modules = {**network._modules, name: layer}
    return changed.requires_grad_(False)
