"""SPPnet at test time: class scores and moved boxes of an image's proposals (paper §4.1).

The SVMs and box regressors on its features are R-CNN's. R regions of an image, C classes without background.
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
from lib.detectors.spp.network import Extractor, SppInput
from lib.linear import files as linear
from lib.parallel.clock import Clock


class Detect(Selection):
    """Block `spp.detect`: which regions become detections, and

    scores    : svm, or the fine-tuned softmax;  regress : move the boxes by the regressors
    batch     : regions that go through the fc layers together;  precision : of the forward passes
    """

    scores: Literal["svm", "softmax"]
    regress: bool
    batch: int = Field(ge=1)
    precision: Precision


class Detector:
    """Scores and refines the proposals of an image.

    files    : by role: `model` (the network), and `scores` and `boxes` (SVMs, regressors) where `settings` uses them
    settings : block `spp.detect`;  device : where to run;  clock : measures the time of each part
    """

    wants_proposals = True

    def __init__(self, files: Mapping[str, Path], settings: Detect, device: Device, clock: Clock) -> None:
        self._extractor = Extractor(files["model"], device, settings.batch, clock=clock)
        self._clock, self.classes = clock, self._extractor.classes
        self._svm = linear.Classifiers(files["scores"], self.classes) if settings.scores == "svm" else None
        self._boxes = linear.Regressors(files["boxes"], self.classes) if settings.regress else None

    def prepare(self, image: NDArray[np.uint8], boxes: Boxes) -> SppInput:
        """As `Extractor.prepare`."""
        return self._extractor.prepare(image, boxes)

    def __call__(self, prepared: SppInput) -> Scored:
        """The regions, their scores, minus infinity where a class has no classifier, and how they move."""
        rows = self._extractor.features(prepared)
        with self._clock.host("scores"):
            scores = self._svm.scores(rows) if self._svm else rows["probabilities"][:, 1:]
        return Scored(prepared.boxes, scores, self._boxes.refine(rows) if self._boxes else unmoved)
