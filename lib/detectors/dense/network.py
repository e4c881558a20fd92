"""What one-stage detectors share: a head on maps of the trunk; of SSD and RetinaNet scores and deltas of every anchor.

N images of a batch, A anchors of an image, level after level, C classes without background, K scores of an anchor:
C of logistic classes, or C + 1 of a softmax, background first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.backbones import model_file
from lib.backbones.backbones import Backbone, Recipe
from lib.backbones.device import Device
from lib.backbones.frozen import FrozenNorm
from lib.backbones.levels import DEEPEST
from lib.backbones.scaling import Sizing
from lib.boxes.anchors import AnchorGrid, Level
from lib.boxes.boxes import Boxes
from lib.stage.errors import Fault, InputError


class Outputs(NamedTuple):
    """What a network says of the images of a batch.

    scores : float32 (N, A, K) log-odds;  deltas : float32 (N, A, 4), see `Form`
    sizes  : height and width of each level's map, in cells
    """

    scores: Tensor
    deltas: Tensor
    sizes: list[tuple[int, int]]


@dataclass(frozen=True)
class Form:
    """What the outputs mean. It is kept in the model file, so that anchors at test are those of the training.

    grid       : the anchors;  classes : C
    background : the scores are those of a softmax, background first
    variances  : deltas are divided by these in training: dx dy by the first, dw dh by the second (SSD: 0.1, 0.2)
    """

    grid: AnchorGrid
    classes: int
    background: bool
    variances: tuple[float, float] = (1.0, 1.0)

    @property
    def outputs(self) -> int:
        """K."""
        return self.classes + self.background

    @property
    def scaling(self) -> NDArray[np.float32]:
        """float32 (4,): what dx dy dw dh are divided by in training."""
        return np.repeat(np.array(self.variances, np.float32), 2)

    def probabilities(self, scores: Tensor) -> Tensor:
        """float (..., K) -> (..., C) in [0, 1]."""
        return scores.softmax(dim=-1)[..., 1:] if self.background else scores.sigmoid()

    def describe(self) -> dict[str, Any]:
        """Tensors and plain types, for `restored_form`."""
        levels = [{"stride": level.stride, "first": torch.from_numpy(level.first)} for level in self.grid.levels]
        return {
            "levels": levels, "classes": self.classes, "background": self.background,
            "variances": list(self.variances),
        }


def restored_form(contents: Mapping[str, Any]) -> Form:
    """The form that `Form.describe` described."""
    grid = AnchorGrid([Level(level["stride"], level["first"].numpy()) for level in contents["levels"]])
    return Form(grid, contents["classes"], contents["background"], tuple(contents["variances"]))


class Head(nn.Module):
    """Base of the layers behind the trunk, which score A boxes of an image for C classes.

    strides : of the trunk's maps that `forward` takes
    """

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)

    def forward(self, maps: Mapping[int, Tensor]) -> Any:
        """stride -> float (N, channels, h, w) of the trunk's maps -> the method's own outputs."""
        raise NotImplementedError

    def scores_of(self, outputs: Any) -> Tensor:
        """float32 (N, A, C), from 0 to about 1, of the outputs of `forward`."""
        raise NotImplementedError

    def boxes_of(self, outputs: Any) -> Tensor:
        """float32 (N, A, 4): what else the outputs say of each box, as the method codes it."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """The section `head` of a model file: tensors and plain types."""
        raise NotImplementedError


H = TypeVar("H", bound=Head)


class DenseHead(Head):
    """Base of heads that score and move anchors.

    form : what the outputs mean;  strides : see `Head`
    """

    def __init__(self, form: Form, strides: Sequence[int]) -> None:
        super().__init__(strides)
        self.form = form

    def scores_of(self, outputs: Outputs) -> Tensor:
        """See `Head`."""
        return self.form.probabilities(outputs.scores.float())

    def boxes_of(self, outputs: Outputs) -> Tensor:
        """float32 (N, A, 4): the deltas, see `Form`."""
        return outputs.deltas.float()

    def sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """Height and width of each level's map, in cells, for images of this size; as `forward` makes them."""
        return self.form.grid.sizes(width, height)

    def anchors(self, width: int, height: int) -> Boxes:
        """float32 (A, 4) in pixels of images of this size; read-only."""
        return self.form.grid(self.sizes(width, height))


class DenseNetwork(FrozenNorm, Generic[H]):
    """A trunk's maps and a head on them. levels : see `Backbone.levels`;  recipe : of its input"""

    def __init__(self, backbone: Backbone, head: H) -> None:
        super().__init__()
        self.levels, self.head = backbone.levels(head.strides), head
        self.recipe = backbone.recipe

    def forward(self, images: Tensor) -> Any:
        """float32 (N, 3, H, W), see `to_batch` -> the outputs of the head."""
        return self.head(self.levels(images))


def predict(convolution: nn.Module, maps: Tensor, values: int) -> Tensor:
    """float32 (N, H·W·anchors of a cell, values) of one level: the outputs of its last convolution in anchors' order.

    In half precision most of the best scores would be equal, and ties go to the first anchor: so in float32.
    """
    with torch.autocast(maps.device.type, enabled=False):
        outputs: Tensor = convolution(maps.float())
    return outputs.permute(0, 2, 3, 1).reshape(len(outputs), -1, values)


def joined(scores: Sequence[Tensor], deltas: Sequence[Tensor], maps: Sequence[Tensor]) -> Outputs:
    """The outputs of all levels, from those of each and its map."""
    return Outputs(torch.cat(list(scores), 1), torch.cat(list(deltas), 1), [(m.shape[2], m.shape[3]) for m in maps])


def to_batch(images: Sequence[NDArray[np.uint8]], recipe: Recipe, device: Device) -> Tensor:
    """Images as one input: float32 (N, 3, H, W), channels-last, on the device; smaller ones padded below and on the
    right with 0, which is the recipe's mean.

    images : uint8 (h, w, 3) RGB each
    """
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    if all(image.shape[:2] == (height, width) for image in images):
        return recipe(device.put(np.stack(images)).permute(0, 3, 1, 2))
    batch = torch.zeros(len(images), height, width, 3, device=device.torch_device).permute(0, 3, 1, 2)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[0], : image.shape[1]] = recipe(device.put(image).permute(2, 0, 1)[None])[0]
    return batch


def check_strides(backbone: Backbone, strides: Sequence[int], where: str) -> None:
    """Raises InputError unless the trunk has a map of each of these strides. where : the setting"""
    unknown = [stride for stride in strides if stride not in backbone.level_channels]
    if unknown or list(strides) != sorted(set(strides)) or not strides:
        allowed = f"some of {list(backbone.level_channels)}, ascending ({backbone.name})"
        raise InputError([Fault("bad setting", f"params.yaml: {where}", f"is {list(strides)}", allowed, "Change it")])


def contents(backbone: Backbone, classes: Sequence[str], scale: Sizing, head: Head) -> dict[str, Any]:
    """What the model file of a one-stage detector holds; see `model_file`."""
    deepest = {"deepest": backbone.deepest.state_dict()} if DEEPEST in head.strides else {}
    return model_file.contents(backbone, classes, scale, **deepest, head=head.describe())


def load(
    path: Path, restore: Callable[[Mapping[str, Any], Backbone], H]
) -> tuple[DenseNetwork[H], model_file.Model]:
    """The network of a file of `contents`, in evaluation mode, and what else the file holds.

    restore : section `head` and the backbone that it is for -> the head
    Raises InputError for a file that is missing, broken, of another method, or whose tensors are not those of its
    layers.
    """
    model = model_file.read(path, "head")
    try:
        head = restore(model.sections["head"], model.backbone)
    # torch's RuntimeError names each tensor that is missing, unknown, or of another shape; the others each setting
    except (RuntimeError, ValueError, KeyError) as error:
        problem = " ".join(str(error).split())
        raise InputError([Fault("other layers", str(path), problem, "the tensors of its layers", "Run: dvc repro")]) \
            from None
    return DenseNetwork(model.backbone, head).eval(), model
