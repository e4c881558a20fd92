"""R-CNN at test time: class scores and moved boxes of an image's proposals (paper §2.2).

R regions of an image, C classes without background.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.backbones.device import Device, Precision
from lib.boxes.boxes import Boxes
from lib.boxes.selection import Scored, Selection, unmoved
from lib.detectors.rcnn.network import Extractor
from lib.images.warp import Crops, Uncut
from lib.linear import files as linear
from lib.parallel.clock import Clock


class Detect(Selection):
    """Block `rcnn.detect`: which regions become detections, and

    scores    : svm, or the network's softmax (paper, appendix B: 54.2 against 50.9 mAP)
    regress   : move the boxes by the regressor of their class (paper §3.5)
    batch     : crops in one forward pass
    precision : of the forward passes
    """

    scores: Literal["svm", "softmax"]
    regress: bool
    batch: int = Field(ge=1)
    precision: Precision


class Detector:
    """Scores and refines the proposals of an image with the trained models of R-CNN.

    files    : by role: `model` (the network), and `scores` and `boxes` (SVMs, regressors) where `settings` uses them
    settings : block `rcnn.detect`;  device : where to run;  clock : measures the time of each part
    """

    wants_proposals = True

    def __init__(self, files: Mapping[str, Path], settings: Detect, device: Device, clock: Clock) -> None:
        self._extractor, self._clock = Extractor(files["model"], device, settings.batch), clock
        self.classes = self._extractor.classes
        self._svm = linear.Classifiers(files["scores"], self.classes) if settings.scores == "svm" else None
        self._boxes = linear.Regressors(files["boxes"], self.classes) if settings.regress else None

    def prepare(self, image: NDArray[np.uint8], boxes: Boxes) -> tuple[Boxes, Crops | Uncut]:
        """The part that needs no network; may run in a thread ahead of the rest."""
        with self._clock.host("crop"):
            return boxes, self._extractor.prepare(image, boxes)

    def __call__(self, prepared: tuple[Boxes, Crops | Uncut]) -> Scored:
        """The regions, their scores, minus infinity where a class has no classifier, and how they move."""
        boxes, crops = prepared
        with self._clock("network"):
            rows = self._extractor.features(crops)
        with self._clock.host("scores"):
            scores = self._svm.scores(rows) if self._svm else rows["probabilities"][:, 1:]
        return Scored(boxes, scores, self._boxes.refine(rows) if self._boxes else unmoved)
