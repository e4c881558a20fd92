"""What box regressors on features of regions learn from (R-CNN paper, appendix C): R-CNN's and SPPnet's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.boxes.boxes import Boxes
from lib.boxes.samples import NormSample, pair
from lib.images.image_set import ProposalsMax
from lib.linear import files
from lib.linear.box_ridge import BoxRegressors, BoxRidge, class_groups, ridge_bytes
from lib.linear.feature_norm import measure
from lib.linear.task import Given, Learning, Task
from lib.stage.params import Settings

Pairs = tuple[NDArray[np.int64], Boxes, Boxes, NDArray[np.int64]]  # rows, boxes, their objects, those objects' classes


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


def reads(method: str) -> dict[str, Any]:
    """The settings of the regressors, and how many proposals of an image they see."""
    return {f"{method}.boxes": BoxFit, f"{method}.proposals_max": ProposalsMax}


def task(given: Given, reader: Callable[..., Any]) -> Task[Learning]:
    """Reads the roles `features`, `model`, and `regions`, a table of proposals.

    reader : `TrainingFeatures` of a network, which finds the features of regions in the first two
    """
    settings, images = given.params[f"{given.method}.boxes"], given.images
    proposals = images.proposals(given.path("regions"), given.params[f"{given.method}.proposals_max"])
    features = reader(given.path("features"), given.path("model"), images, proposals)
    regions: list[int] = []
    pairs: list[Pairs] = []
    for image_id in images.ids:
        boxes, (objects, labels) = images.regions(image_id, proposals), images.objects(image_id)
        regions.append(len(boxes))
        rows, targets = pair(boxes, objects, settings.more_than)
        pairs.append((rows, boxes[rows], objects[targets], labels[targets]))
    all_labels = np.concatenate([part[-1] for part in pairs])
    samples = np.bincount(all_labels, minlength=len(images.classes)).tolist()
    width = features.width(settings.layer)
    passes = class_groups(samples, width, given.memory)
    work = (f"{len(images)} images, {sum(samples)} samples of {len(samples)} classes in {len(passes)} passes, "
            f"features {settings.layer}")
    memory = max(ridge_bytes([samples[label] for label in group], width) for group in passes)

    def begin() -> Regression:
        return Regression(given, features, regions, pairs, samples, passes)

    return Task(len(passes) * len(images), begin, work, memory)


class Regression:
    """The fit, class by class where memory does not hold all; a step is an image of a pass.

    features : the reader;  regions : how many each image has;  pairs : what each image teaches
    samples  : of each class;  passes : the classes of each
    """

    def __init__(
        self, given: Given, features: Any, regions: Sequence[int], pairs: Sequence[Pairs], samples: Sequence[int],
        passes: Sequence[range],
    ) -> None:
        self._settings, self._images = given.params[f"{given.method}.boxes"], given.images
        self._features, self._pairs, self._samples, self._passes = features, pairs, samples, passes
        read = lambda image, rows: features.read(self._settings.layer, self._images.ids[image], rows)  # noqa: E731
        self._scale = measure(read, regions, self._settings.norm, given.seed)
        self._fitted: list[BoxRegressors] = []

    def add(self, step: int) -> None:
        """See `task.Learning`."""
        turn, number = divmod(step, len(self._images))
        group, settings = self._passes[turn], self._settings
        if number == 0:
            width = self._features.width(settings.layer)
            self._ridge = BoxRidge([self._samples[label] for label in group], width)
        rows, boxes, objects, labels = self._pairs[number]
        of_group = np.isin(labels, group)
        values = self._features.read(settings.layer, self._images.ids[number], rows[of_group]) * np.float32(self._scale)
        self._ridge.add(values, boxes[of_group], objects[of_group], labels[of_group] - group[0])
        if number + 1 == len(self._images):
            self._fitted.append(self._ridge.fit(settings.penalty, settings.whitening))

    def sections(self) -> Mapping[str, Any]:
        """For `files.Regressors`."""
        fitted = BoxRegressors.join(self._fitted)
        return files.regressors(self._images.classes, self._settings.layer, self._scale, fitted)
