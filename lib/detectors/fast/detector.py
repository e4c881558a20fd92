"""Fast R-CNN at test time: class scores and moved boxes of an image's proposals (paper §3).

R regions of an image, C classes without background.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from lib.backbones.device import Device, Precision
from lib.boxes.selection import Scored, Selection, unmoved
from lib.detectors.fast.network import RegionInput, RegionScorer, refine, softmax
from lib.linear import files as linear
from lib.parallel.clock import Clock
from lib.stage.errors import Fault, InputError


class Detect(Selection):
    """Block `fast.detect`: which regions become detections, and

    scores  : softmax, or svm: those of the file in the role `scores` (paper §5.4: 66.9 against 66.8 mAP)
    regress : move the boxes by the deltas of their class (off: §5.1's "multi-task training, no regression at test")
    batch   : regions in one pass of the head;  precision : of the forward passes
    """

    scores: Literal["softmax", "svm"]
    regress: bool
    batch: int = Field(ge=1)
    precision: Precision


class Detector:
    """Scores and boxes of the proposals of one image after another.

    files    : by role: `model` (a file with a head), and `scores`: the SVMs, or the same file for softmax scores
    settings : block `fast.detect`;  device : where to run;  clock : measures the time of each part
    """

    wants_proposals = True

    def __init__(self, files: Mapping[str, Path], settings: Detect, device: Device, clock: Clock) -> None:
        self._score_regions = RegionScorer(files["model"], device, settings.batch, clock)
        self._settings, self._clock = settings, clock
        self.classes, self.prepare = self._score_regions.classes, self._score_regions.prepare
        if settings.scores == "svm" and files["scores"] == files["model"]:
            raise InputError([Fault("no SVMs", str(files["scores"]), "has a softmax, and the block says scores: svm",
                                    "softmax", "Set scores: softmax, or give the row SVMs as scores in dvc.yaml")])
        self._svm = linear.Classifiers(files["scores"], self.classes) if settings.scores == "svm" else None

    def __call__(self, prepared: RegionInput) -> Scored:
        """The regions, clipped to the image, their scores, and how they move."""
        rows = self._score_regions(prepared, ("fc7",) if self._svm else ())
        with self._clock.host("scores"):
            scores = self._svm.scores(rows) if self._svm else softmax(rows["logits"])[:, 1:]
        return Scored(prepared.boxes, scores, refine(rows["deltas"]) if self._settings.regress else unmoved)
