"""R-CNN's fine-tuning: M0 with a (C+1)-way softmax on warped proposals, batches of 32 + 96 windows (paper §2.3).

With `iterations: 0` it is M0 with a fresh classifier, which is the paper's row "without fine-tuning".
C classes without background, N windows of a batch or of a part of it.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from lib.backbones import backbones
from lib.backbones.device import Device, Precision
from lib.detectors.rcnn.network import Crop, RcnnNetwork, describe
from lib.images.image_set import ImageSet, ProposalsMax
from lib.images.warp import Crops
from lib.storage import checkpoint
from lib.training import windows
from lib.training.loop import Part, generator
from lib.training.optimisation import Optimisation
from lib.training.task import Given, Task, once
from lib.training.windows import Windows


class RcnnFineTuning(Optimisation):
    """Block `rcnn.finetune`: the optimisation, and

    batch, foreground_share : crops in a batch, and the share of them that is foreground (paper: 128, 1/4)
    foreground, background  : IoU from which a window is foreground, below which it is background (paper: 0.5, 0.5)
    mirror                  : probability of mirroring a crop (Caffe's layer: 0.5)
    frozen                  : leading parts of the trunk that are not trained (paper: 0)
    precision               : of the forward passes
    """

    batch: int = Field(ge=1)
    foreground_share: float = Field(ge=0, le=1)
    foreground: float = Field(gt=0, le=1)
    background: float = Field(gt=0, le=1)
    mirror: float = Field(ge=0, le=1)
    frozen: int = Field(ge=0)
    precision: Precision


def reads(block: str, method: str) -> dict[str, Any]:
    """The settings of this training."""
    return {block: RcnnFineTuning, f"{method}.crop": Crop, f"{method}.proposals_max": ProposalsMax}


def task(given: Given) -> Task:
    """M0 and the windows of all images. Reads the roles `model` (M0) and `proposals`.

    A pass draws as many foreground windows as there are; see `windows.a_pass`.
    """
    settings, images = given.settings, given.images
    proposals = given.proposals()
    window_sets = windows.WindowSets(settings.foreground, settings.background)
    for position, image_id in enumerate(images.ids):
        objects, labels = images.objects(image_id)
        window_sets.add_image(position, objects, labels, proposals.boxes(image_id), len(images.classes))
    all_windows = window_sets.join()
    settings = settings.resolved(*windows.a_pass(all_windows, settings.batch, settings.foreground_share))

    torch.manual_seed(given.seed)
    backbone = backbones.restore(checkpoint.load(given.path("model"), "backbone", "recipe", "tensors"))
    network = RcnnNetwork(backbone, images.classes, given.params[f"{given.method}.crop"])
    network.backbone.freeze(settings.frozen)

    def batch(i: int) -> list[tuple[Crops, Windows]]:
        random = generator(given.seed, given.stage, i)
        sampled, mirror = windows.sample_windows(
            all_windows, settings.batch, settings.foreground_share, settings.mirror, random
        )
        parts = [slice(part, None, settings.parts) for part in range(min(settings.parts, len(sampled)))]
        return [(cut_windows(network, images, sampled[rows], mirror[rows]), sampled[rows]) for rows in parts]

    def part_losses(part: tuple[Crops, Windows]) -> Part:
        crops, part_windows = part
        image_ids = [images.ids[position] for position in part_windows.image]
        return Part(losses(network, crops, part_windows, settings.batch, given.device), image_ids)

    return Task(
        network, once(settings, [network.classifier], batch, part_losses), settings.steps,
        lambda: describe(network),
        f"{settings.steps} iterations of {settings.batch} crops; {len(all_windows[0])} foreground and "
        f"{len(all_windows[1])} background windows",
    )


def losses(network: RcnnNetwork, crops: Crops, windows: Windows, batch: int, device: Device) -> dict[str, Tensor]:
    """Softmax cross-entropy over C+1 classes (paper §2.3): the share of a part in the mean over `batch` windows."""
    labels = device.put(windows.label.astype(np.int64))
    logits = network(network.prepare(crops, device))[2]
    return {"classification": nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / batch}


def cut_windows(
    network: RcnnNetwork, image_set: ImageSet, windows: Windows, mirror: NDArray[np.bool_]
) -> Crops:
    """The crops of windows of many images, in the order of the windows.

    mirror : bool (N,) which crops to mirror, after cropping, as in Caffe's layer
    """
    parts, order = [], []
    for position in np.unique(windows.image):
        rows = np.flatnonzero(windows.image == position)
        parts.append(network.cut(image_set.image(image_set.ids[position]), windows.boxes[rows]))
        order.append(rows)
    crops = Crops.concatenate(parts)
    as_given = np.argsort(np.concatenate(order))
    return Crops(crops.pixels[as_given], crops.covered[as_given]).mirrored(mirror)
