"""One ridge regression per class from features to boxes (R-CNN paper, appendix C).

Reads the features of the method, the tables and the proposals; writes `data/models/METHOD/boxes.pt`.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from lib.core import run, shards, tables
from lib.core.by_image import ByImage
from lib.core.params import Settings
from lib.data.photographs import Photographs, Splits
from lib.detectors import linear
from lib.learners.box_ridge import BoxRegressors, BoxRidge, pair, ridge_bytes
from lib.learners.feature_norm import NormSample, measure


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


PARAMS = {"seed": int, "splits": Splits, "{item}.boxes": BoxFit, "{item}.difficult": bool, "proposals.table": str}


def main(life: run.Life) -> None:
    """See the module's docstring."""
    settings = life.params[f"{life.item}.boxes"]
    photographs = Photographs(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{life.item}.difficult"]
    )
    proposals = ByImage(life.dep(life.params["proposals.table"]), tables.PROPOSALS)
    features = shards.Reader(life.dep(f"data/features/{life.item}"))
    classes, width = len(photographs.classes), features.width(settings.layer)
    room = int(life.compute.memory_gib * 2**30 // ridge_bytes(1, width, 0))
    passes = list(tables.chunks(range(classes), max(1, room)))
    life.announce(
        f"{len(photographs)} images, {classes} classes in {len(passes)} passes, features {settings.layer}",
        memory=ridge_bytes(len(passes[0]), width, 4096),
    )
    scale = measure(features, settings.layer, photographs.ids, settings.norm, life.params["seed"])
    fitted: list[BoxRegressors] = []
    steps = life.progress([(group, one) for group in passes for one in photographs.ids],
                          len(passes) * len(photographs), "image")
    for group, image_id in steps:
        if image_id == photographs.ids[0]:
            ridge = BoxRidge(len(group), width)
        boxes, (objects, labels) = photographs.regions(image_id, proposals), photographs.objects(image_id)
        rows, targets = pair(boxes, objects, settings.more_than)
        mine = np.isin(labels[targets], group)
        rows, targets = rows[mine], targets[mine]
        samples = features.read(settings.layer, image_id, rows) * np.float32(scale)
        ridge.add(samples, boxes[rows], objects[targets], labels[targets] - group[0])
        if image_id == photographs.ids[-1]:
            fitted.append(ridge.fit(settings.penalty, settings.whitening))
    linear.save_regressors(
        life.out(f"data/models/{life.item}/boxes.pt"), photographs.classes, settings.layer, scale,
        BoxRegressors.join(fitted),
    )


if __name__ == "__main__":
    run.stage(main, PARAMS)
