"""The files that `predict` makes of its detections, each written by itself: one that fails loses no other.

`detections.parquet`, COCO's `detections.json` and `images.json` (what its numbers mean), `pictures/IMAGE_ID.png`, and
`trace.html`.
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from lib.boxes.boxes import Boxes
from lib.boxes.selection import Scored, Selection
from lib.detection import trace
from lib.evaluation import coco_results
from lib.evaluation.inputs import Inputs
from lib.images.decode import Image
from lib.report import attributions, drawing, page, page_trace
from lib.report.collect import NAMES
from lib.stage.errors import Failures, Fault, InputError
from lib.stage.interrupt import HeldBack
from lib.storage import outputs, tables
from lib.visualization.placing import Heat

# Scores from which a box is drawn, of probabilities and of SVMs. On photographs of one animal the F1 score on val is
# .78 from .5 and at its best, from .8, .84 (results/benchmarks/one_class.json). Margins of right boxes reach below 0.
DRAWN_FROM, OF_SVMS = 0.5, -0.2
LOOKED_AT = 8  # best detections of a trace whose maps are on its page
JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")


def drawn_from(selection: Selection) -> float:
    """The least score of a drawn box where none is named: lower ones are mostly noise, and stay in the tables."""
    return OF_SVMS if selection.margins else DRAWN_FROM


def check_drawn(most: int, min_score: float | None) -> None:
    """Raises InputError where `most`, the boxes drawn on an image, is below 0, or `min_score` is not a number: no box
    has a score of at least NaN.  min_score : None for `drawn_from`"""
    faults = []
    if most < 0:
        faults.append(Fault("wrong option", "--boxes", f"is {most}", "0 or more", "Leave it out for the best 8"))
    if min_score is not None and math.isnan(min_score):
        remedy = "Write --min-score=-inf to draw boxes of any score"
        faults.append(Fault("wrong option", "--min-score", f"is {min_score}", "a number", remedy))
    if faults:
        raise InputError(faults)


class Predictions:
    """The folder of the results.

    out      : the folder, which need not exist
    failures : notes each image that fails and each file that cannot be made
    missing  : images that were not tried before Ctrl-C came;  undrawn : pictures that were not
    """

    def __init__(self, out: Path) -> None:
        self.out, self.failures = out, Failures()
        self.missing = self.undrawn = 0

    def check(self, root: Path, ids: Sequence[str], traced: bool) -> None:
        """Raises InputError with all that would keep the files of the images from being written.

        root : folder of the images;  ids : their paths in it, each once;  traced : whether there will be a trace
        """
        if traced and len(ids) != 1:
            problem = f"was given {len(ids)} images"
            raise InputError([Fault("many images", "--trace", problem, "one image", "Name one image")])
        sources = [root / image_id for image_id in ids]
        names = ["detections.parquet", "detections.json", "images.json", *["trace.html"] * traced]
        # An image of a camera takes more space as PNG than as JPEG, so at least this much is needed.
        disk = sum(path.stat().st_size for path in sources if path.suffix.lower() in JPEG)
        paths = [*(self.out / name for name in names), *map(self._picture, ids)]
        outputs.check(paths, "--out", sources, disk)

    def tables(self, ids: Sequence[str], classes: Sequence[str], detections: pd.DataFrame) -> None:
        """The detections as Parquet and as COCO's JSON.

        ids : the images that were worked on, those without detections too;  detections : tables.DETECTIONS
        """
        path = self.out / "detections.parquet"
        with self.failures(str(path)):
            tables.write(path, detections, tables.DETECTIONS)
        with self.failures(str(self.out / "detections.json")):
            images, objects = pd.DataFrame({"image_id": list(ids)}, dtype=str), tables.OBJECTS.empty_table().to_pandas()
            coco_results.write(self.out, Inputs.of(images, objects, detections, classes), "images.json")

    def pictures(
        self, ids: Sequence[str], read: Callable[[str], Image], detections: pd.DataFrame, most: int, min_score: float,
        interrupt: HeldBack,
    ) -> None:
        """The images with their best boxes, as `drawing.draw_best`, up to Ctrl-C."""
        rows_of, self.undrawn = tables.groups(detections), len(ids)
        for image_id in interrupt.until(ids):
            self.undrawn -= 1
            with self.failures(str(self._picture(image_id))):
                best = rows_of.get(image_id, detections.iloc[:0])
                drawing.write_png(self._picture(image_id), drawing.draw_best(read(image_id), best, most, min_score))

    def trace(
        self, title: str, read: Callable[[], Image], score: Callable[[Image], Scored], selection: Selection,
        classes: list[str], look: Callable[[Image, Boxes, int], dict[str, Heat]] | None = None,
    ) -> None:
        """The page that follows each detection of an image, scored anew; see `trace` in lib/detection.

        look : (image, region or detection float32 (4,), class from 0) -> maps by kind, of the `LOOKED_AT` best
               detections; None where the detector has no `explain.py`
        """
        path = self.out / "trace.html"
        with self.failures(str(path)):
            image = read()
            width, height = image.shape[1], image.shape[0]
            steps = trace.trace(score(image), (width, height), selection)
            data = {"width": width, "height": height, "source": page.data_uri(image, 1200)}
            data |= trace.describe(steps, classes, most=40)
            kept = [row for row in range(len(steps.rows)) if steps.remover[row] == trace.KEPT][:LOOKED_AT]
            # A place in the network is known by the box that it made, a region by itself.
            looked_at = steps.boxes if steps.origin else steps.regions[steps.rows]
            seen = [(looked_at[row], int(steps.labels[row])) for row in kept]
            heats = [look(image, region, label) for region, label in seen] if look else []
            data["looked_at"] = [
                {NAMES[kind]: page.data_uri(attributions.overlay(image, heat), 480) for kind, heat in maps.items()}
                for maps in heats
            ]
            tables.write_text(path, page_trace.page(title, data))

    def exit_code(self) -> int:
        """130 where Ctrl-C came, 1 where anything failed, else 0; says on stderr what failed and what is missing."""
        if self.failures.faults:
            print(f"ERROR: {InputError(self.failures.faults)}", file=sys.stderr)
        if self.missing or self.undrawn:
            counts = f"{self.missing} images and {self.undrawn} pictures are missing"
            print(f"Interrupted: {counts}, what was done by then is in {self.out}", file=sys.stderr)
            return 130
        return 1 if self.failures.faults else 0

    def _picture(self, image_id: str) -> Path:
        return self.out / f"pictures/{image_id}.png"
