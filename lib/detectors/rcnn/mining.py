"""What SVMs on stored features of regions learn from (R-CNN paper §2.3 and appendix B): R-CNN's, SPPnet's, and Fast
R-CNN's of table 8. Each image is mined once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.boxes.boxes import class_overlaps
from lib.boxes.samples import NormSample
from lib.images.image_set import ProposalsMax
from lib.linear import files, svm
from lib.linear.feature_norm import measure
from lib.linear.mining import Miner
from lib.linear.task import Given, Mining, Task
from lib.stage.memory import require_memory
from lib.storage import shards
from lib.storage.by_image import ByImage


class Svm(svm.SvmSettings):
    """Block `METHOD.svm`: the mining, and

    layer            : whose features the SVMs see
    norm             : what the features are scaled to, and on which sample that is measured
    checkpoint_every : images between checkpoints, from which a killed run resumes
    """

    layer: Literal["pool5", "fc7"]
    norm: NormSample
    checkpoint_every: int = Field(ge=1)


def reads(method: str) -> dict[str, Any]:
    """The settings of the SVMs, and how many proposals of an image they see."""
    return {f"{method}.svm": Svm, f"{method}.proposals_max": ProposalsMax}


def task(given: Given) -> Task[Mining]:
    """Reads the roles `features`, a store of `extract`, and `regions`, the proposals of its rows."""
    settings, images = given.settings, given.images
    proposals = images.proposals(given.path("regions"), given.params[f"{given.method}.proposals_max"])
    features = shards.Reader(given.path("features"))
    objects = {image_id: images.objects(image_id) for image_id in images.ids}
    for image_id in images.ids:
        features.check(image_id, images.regions(image_id, proposals))
    counts = np.bincount(np.concatenate([labels for _, labels in objects.values()]), minlength=len(images.classes))
    regions = [features.rows(image_id) for image_id in images.ids]
    negatives = min(settings.max_negatives, sum(regions))
    need = svm.mining_bytes(counts.sum(), counts.max(), negatives, negatives, features.width(settings.layer))

    def begin() -> StoredRegions:
        require_memory(need, given.memory, given.stage, "svm.max_negatives")
        return StoredRegions(given, features, proposals, regions)

    work = (f"{len(images)} images, {len(images.classes)} classes, features {settings.layer}, "
            f"{negatives} negatives of a class at most")
    return Task(len(images), begin, work, need)


class StoredRegions:
    """Mining of features that lie on disk, image by image; all classes see the same ones.

    features : the store;  proposals : of its regions;  regions : how many each image has
    """

    def __init__(self, given: Given, features: shards.Reader, proposals: ByImage, regions: Sequence[int]) -> None:
        self._layer, self._images = given.settings.layer, given.images
        self._features, self._proposals = features, proposals
        ids = given.images.ids
        self._factor = measure(
            lambda image, rows: features.read(self._layer, ids[image], rows), regions, given.settings.norm, given.seed
        )
        objects = [given.images.objects(image_id)[1] for image_id in ids]
        parts = (
            (labels, self._read(image_id, slice(len(labels)))) for image_id, labels in zip(ids, objects, strict=True)
        )
        positives = svm.by_class(given.images.classes, parts)
        self._miner = Miner(given.images.classes, positives, given.settings, given.seed, given.memory)
        self.miners, self.log_rows = [self._miner], self._miner.log_rows

    def _read(self, image_id: str, rows: slice = slice(None)) -> NDArray[np.float32]:
        return self._features.read(self._layer, image_id, rows) * np.float32(self._factor)

    def add(self, step: int) -> None:
        """See `task.Mining`; a step is an image."""
        image_id = self._images.ids[step]
        boxes = self._images.regions(image_id, self._proposals)
        overlaps = class_overlaps(boxes, *self._images.objects(image_id), len(self._images.classes))
        self._miner.add_image(step, self._read(image_id), overlaps, last=step + 1 == len(self._images))

    def sections(self) -> Mapping[str, Any]:
        """For `files.Classifiers`."""
        miner = self._miner
        return files.classifiers(
            self._images.classes, self._layer, self._factor, miner.weights, miner.bias, miner.trained, miner.notes
        )
