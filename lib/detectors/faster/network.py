"""Faster R-CNN (Ren et al. 2015): a network that proposes regions on the detector's own map, and Fast R-CNN on them.

R regions of an image, C classes without background, H W sides of a scaled image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from lib.backbones import model_file
from lib.backbones.backbones import Backbone, fold_batch_norm
from lib.backbones.device import Device, Precision
from lib.backbones.frozen import FrozenNorm
from lib.backbones.scaling import Scale, Sizing, resize, to_input
from lib.boxes.boxes import Boxes
from lib.boxes.selection import Scored, Selection, unmoved
from lib.detectors.fast import network as fast
from lib.detectors.faster import rpn as rpn_net
from lib.detectors.faster.rpn import RPN, Proposing
from lib.images.decode import Image
from lib.parallel.clock import Clock
from lib.stage.errors import Fault, InputError

REGIONS = Proposing  # it makes its own, as such a block says


class Proposer(FrozenNorm):
    """A trunk with a region proposal network; it holds what is run and nothing else of the backbone.

    trunk, rpn : the backbone's own trunk, and the layers on it;  recipe : the backbone's
    """

    def __init__(self, backbone: Backbone, rpn: RPN) -> None:
        super().__init__()
        self.trunk, self.rpn, self.recipe = backbone.trunk, rpn, backbone.recipe

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (1, 3, H, W) -> log-odds and deltas of every anchor, see `RPN`."""
        logits, deltas = self.rpn(self.trunk(image))
        return logits, deltas


def one_size(scale: Sizing | None, where: str) -> Scale:
    """The scale of a proposer. Raises InputError where it is a pyramid: its anchors are the scales (paper §3.1.1)."""
    if not isinstance(scale, Scale) or len(scale.short_side) != 1:
        sizes = scale.short_side if isinstance(scale, Scale) else None
        raise InputError([Fault("bad scale", where, f"short_side is {sizes}", "one size", "Give one; the anchors are the scales")])
    return scale


@dataclass(frozen=True)
class Prepared:
    """An image ready for the network.

    original, scaled : uint8, as decoded and at the proposer's size;  factor : scaled / original
    """

    original: Image
    scaled: NDArray[np.uint8]
    factor: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the scaled image."""
        return self.scaled.shape[1], self.scaled.shape[0]


class Proposals:
    """The proposals of one image after another; reads only, so threads may share it.

    path  : a model file with a section `rpn`;  device : where to run;  clock : takes the time of each part
    """

    def __init__(self, path: Path, device: Device, clock: Clock) -> None:
        self.model = model_file.read(path, "rpn")
        self.scale = one_size(self.model.scale, str(path))
        self.network = Proposer(self.model.backbone, rpn_net.restore(self.model.sections["rpn"])).eval()
        self.network.trunk = fold_batch_norm(self.network.trunk)  # type: ignore[assignment]
        self.network.to(device.place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self._clock = device, clock

    def prepare(self, image: Image) -> Prepared:
        """The part that needs no network."""
        with self._clock("resize"):
            factor = self.scale.factors(image.shape[1], image.shape[0])[0]
            return Prepared(image, resize(image, factor), factor)

    def maps(self, prepared: Prepared) -> Tensor:
        """float32 (1, channels, h, w): the trunk's map of the scaled image."""
        with self._clock("trunk"), self._device.autocast():
            maps: Tensor = self.network.trunk(to_input(prepared.scaled, self.network.recipe, self._device))
            return maps

    def propose(self, maps: Tensor, prepared: Prepared, settings: Proposing) -> tuple[Tensor, Tensor]:
        """float32 (R, 4) in the scaled image, the best first, and probabilities (R,). See `rpn.propose`."""
        with self._clock("proposals"), self._device.autocast():
            logits, deltas = self.network.rpn(maps)
            anchors = self.network.rpn.anchors_on(maps)
            return rpn_net.propose(anchors, logits, deltas, prepared.size, prepared.factor, settings)

    def __call__(self, prepared: Prepared, settings: Proposing) -> tuple[Boxes, NDArray[np.float32]]:
        """The proposals in pixels of the original image, unrounded, the best first, and their probabilities.

        returns : float32 (R, 4), float32 (R,). Where no box passes, the whole image is the one proposal, of
        probability 0: every image then has rows in a table.
        """
        with torch.inference_mode():
            boxes, scores = self.propose(self.maps(prepared), prepared, settings)
        if not len(boxes):
            height, width = prepared.original.shape[:2]
            return np.array([[0, 0, width, height]], np.float32), np.zeros(1, np.float32)
        return to_original(boxes, prepared), scores.cpu().numpy()


def to_original(boxes: Tensor, prepared: Prepared) -> Boxes:
    """Boxes of the scaled image in pixels of the original, cut to it: the scaled sides were rounded."""
    height, width = prepared.original.shape[:2]
    limits = np.array([width, height, width, height], np.float32)
    return np.asarray(np.minimum(boxes.cpu().numpy() / np.float32(prepared.factor), limits), np.float32)


class Detect(Selection):
    """Block `faster.detect`: which regions become detections, and

    regress   : move the boxes by the deltas of their class
    batch     : regions that go through the head at once;  precision : of the forward passes
    """

    regress: bool
    batch: int = Field(ge=1)
    precision: Precision


class Detector:
    """Regions, scores and boxes of one image after another.

    models   : files of which one has a section `rpn` and one a section `head`, both perhaps the same file. Where their
               trunks and scales are equal, one pass of it serves both (§3.2, shared); otherwise each runs its own
    settings : of what detects;  regions : which boxes become regions (paper: 6000, 300, 0.7, 16)
    place, clock : where to run; takes the time of each part
    """

    wants_proposals = False

    def __init__(
        self, models: Sequence[Path], settings: Detect, regions: Proposing, place: Device, clock: Clock
    ) -> None:
        self._settings, self._proposing, self._place, self._clock = settings, regions, place, clock
        self._proposals = Proposals(models[0], place, clock)
        self._regions = fast.Pass(models[-1], place, settings.batch, clock)
        self.classes = self._regions.classes
        self.shared = same_trunk(self._proposals.model, self._regions.model)

    def prepare(self, image: Image, boxes: Boxes | None = None) -> Prepared:
        """The part that needs no network; may run in a thread ahead of the rest."""
        return self._proposals.prepare(image)

    def __call__(self, prepared: Prepared) -> Scored:
        """The proposals in the original image, their scores, and how they move."""
        if self.shared:
            boxes, logits, deltas = self._one_pass(prepared)
        else:
            boxes, _ = self._proposals(prepared, self._proposing)
            rows = self._regions(self._regions.prepare(prepared.original, boxes), ())
            logits, deltas = rows["logits"], rows["deltas"]
        with self._clock("scores"):
            scores = fast.softmax(logits)[:, 1:]
        return Scored(boxes, scores, fast.refine(deltas) if self._settings.regress else unmoved)

    def _one_pass(self, prepared: Prepared) -> tuple[Boxes, NDArray[np.float32], NDArray[np.float32]]:
        network = self._regions.network
        with torch.inference_mode():
            maps = self._proposals.maps(prepared)
            boxes, _ = self._proposals.propose(maps, prepared, self._proposing)
            with self._clock("regions"), self._place.autocast():
                rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
                parts = [network.head(network.pool(maps, part)) for part in rois.split(self._settings.batch)]
                logits, deltas = (torch.cat(values) for values in zip(*parts, strict=True))
                moves = network.head.deltas(deltas.float())
        return to_original(boxes, prepared), logits.float().cpu().numpy(), moves.cpu().numpy()


def same_trunk(first: model_file.Model, second: model_file.Model) -> bool:
    """True where two models see an image at the same size and their trunks and recipes are equal, bit for bit."""
    if (first.backbone.name, first.backbone.recipe, first.scale) != (second.backbone.name, second.backbone.recipe, second.scale):
        return False
    pairs = zip(first.backbone.trunk.state_dict().values(), second.backbone.trunk.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)
