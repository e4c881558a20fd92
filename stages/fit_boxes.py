"""One ridge regression per class from features to boxes (R-CNN paper, appendix C).

Reads the features of the method, the tables and the proposals; writes `data/models/METHOD/boxes.pt`.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from lib.images.image_set import ImageSet, Splits
from lib.linear import files as linear
from lib.linear.box_ridge import BoxRegressors, BoxRidge, class_groups, pair, ridge_bytes
from lib.linear.feature_norm import NormSample, measure
from lib.stage.params import Seed, Settings
from lib.stage.run import Life
from lib.storage import shards, tables
from lib.storage.by_image import ByImage
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


PARAMS = {"seed": Seed, "splits": Splits, "{item}.boxes": BoxFit, "{item}.difficult": bool}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings = life.params[f"{life.item}.boxes"]
    image_set = ImageSet(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{life.item}.difficult"]
    )
    proposals = ByImage(life.input("proposals"), tables.PROPOSALS)
    features = shards.Reader(life.input("features"))
    chosen = {}  # by image: rows, their boxes, the objects they are to be moved onto, those objects' classes
    for image_id in image_set.ids:
        boxes, (objects, labels) = image_set.regions(image_id, proposals), image_set.objects(image_id)
        features.check(image_id, boxes)
        rows, targets = pair(boxes, objects, settings.more_than)
        chosen[image_id] = rows, boxes[rows], objects[targets], labels[targets]
    samples = np.bincount(np.concatenate([part[-1] for part in chosen.values()]), minlength=len(image_set.classes)).tolist()
    width, limit = features.width(settings.layer), int(life.compute.memory_gib * 2**30)
    passes = class_groups(samples, width, limit)
    life.announce(
        f"{len(image_set)} images, {sum(samples)} samples of {len(samples)} classes in {len(passes)} passes, "
        f"features {settings.layer}",
        memory=max(ridge_bytes([samples[label] for label in group], width) for group in passes),
    )
    scale = measure(features, settings.layer, image_set.ids, settings.norm, life.params["seed"])
    fitted: list[BoxRegressors] = []
    steps = life.progress([(group, one) for group in passes for one in image_set.ids],
                          len(passes) * len(image_set), "image")
    for group, image_id in steps:
        if image_id == image_set.ids[0]:
            ridge = BoxRidge([samples[label] for label in group], width)
        rows, boxes, objects, labels = chosen[image_id]
        mine = np.isin(labels, group)
        values = features.read(settings.layer, image_id, rows[mine]) * np.float32(scale)
        ridge.add(values, boxes[mine], objects[mine], labels[mine] - group[0])
        if image_id == image_set.ids[-1]:
            fitted.append(ridge.fit(settings.penalty, settings.whitening))
    linear.save_regressors(
        life.out(life.role("makes")), image_set.classes, settings.layer, scale,
        BoxRegressors.join(fitted),
    )


if __name__ == "__main__":
    stage(main, PARAMS)
