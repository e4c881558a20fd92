"""One ridge regression per class from features to boxes (R-CNN paper, appendix C).

`python -m stages.fit_boxes METHOD detector=PAPER features=FOLDER model=FILE proposals=TABLE makes=FILE`: PAPER of
lib/detectors, whose `TrainingFeatures` reads FOLDER: the features that `extract` stored, or SPPnet's feature maps.
"""

from importlib import import_module
from typing import Literal

import numpy as np
from pydantic import Field

from lib.boxes.samples import NormSample, pair
from lib.images.image_set import ImageSet, ProposalsMax, Splits
from lib.linear import files as linear
from lib.linear.box_ridge import BoxRegressors, BoxRidge, class_groups, ridge_bytes
from lib.linear.feature_norm import measure
from lib.stage.params import Seed, Settings
from lib.stage.run import Life
from stages.schemas import stage


class BoxFit(Settings):
    """Block `METHOD.boxes`.

    layer     : whose features the regressors see (paper: pool5)
    norm      : what the features are scaled to, and on which sample that is measured
    penalty   : ridge λ, on the sum of squared errors, bias included (R-CNN 1000, SPPnet 4000)
    more_than : IoU with its object that a region must exceed (R-CNN 0.6, SPPnet 0.5)
    whitening : added to the variances of the targets (authors: 0.001)
    """

    layer: Literal["pool5", "fc7"]
    norm: NormSample
    penalty: float = Field(gt=0)
    more_than: float = Field(ge=0, lt=1)
    whitening: float = Field(gt=0)


PARAMS = {"seed": Seed, "splits": Splits, "{item}.boxes": BoxFit, "{item}.difficult": bool,
          "{item}.proposals_max": ProposalsMax}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings = life.params[f"{life.item}.boxes"]
    image_set = ImageSet(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{life.item}.difficult"]
    )
    proposals = image_set.proposals(life.input("proposals"), life.params[f"{life.item}.proposals_max"])
    network = import_module(f"lib.detectors.{life.role('detector')}.network")
    features = network.TrainingFeatures(life.input("features"), life.input("model"), image_set, proposals)
    counts = []
    pairs = {}  # by image: rows, their boxes, the objects they are to be moved onto, those objects' classes
    for image_id in image_set.ids:
        boxes, (objects, labels) = image_set.regions(image_id, proposals), image_set.objects(image_id)
        counts.append(len(boxes))
        rows, targets = pair(boxes, objects, settings.more_than)
        pairs[image_id] = rows, boxes[rows], objects[targets], labels[targets]
    all_labels = np.concatenate([part[-1] for part in pairs.values()])
    samples = np.bincount(all_labels, minlength=len(image_set.classes)).tolist()
    width, limit = features.width(settings.layer), int(life.compute.memory_gib * 2**30)
    passes = class_groups(samples, width, limit)
    life.announce(
        f"{len(image_set)} images, {sum(samples)} samples of {len(samples)} classes in {len(passes)} passes, "
        f"features {settings.layer}",
        memory=max(ridge_bytes([samples[label] for label in group], width) for group in passes),
    )
    read = lambda image, rows: features.read(settings.layer, image_set.ids[image], rows)  # noqa: E731
    scale = measure(read, counts, settings.norm, life.params["seed"])
    fitted: list[BoxRegressors] = []
    steps = [(group, image_id) for group in passes for image_id in image_set.ids]
    for group, image_id in life.progress(steps, len(steps), "image"):
        if image_id == image_set.ids[0]:
            ridge = BoxRidge([samples[label] for label in group], width)
        rows, boxes, objects, labels = pairs[image_id]
        of_group = np.isin(labels, group)
        values = features.read(settings.layer, image_id, rows[of_group]) * np.float32(scale)
        ridge.add(values, boxes[of_group], objects[of_group], labels[of_group] - group[0])
        if image_id == image_set.ids[-1]:
            fitted.append(ridge.fit(settings.penalty, settings.whitening))
    linear.save_regressors(
        life.out(life.role("makes")), image_set.classes, settings.layer, scale, BoxRegressors.join(fitted)
    )


if __name__ == "__main__":
    stage(main, PARAMS)
