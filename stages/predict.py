"""Runs a trained method on images of your own, by the same code as `detect`.

``python -m stages.predict --method faster IMAGES... --out DIR [--trace]``: IMAGES are files, folders or patterns. Writes
pictures with the best boxes, `detections.parquet`, COCO's `detections.json` (and `images.json`, which says what its numbers
mean), and with --trace, for one image, `trace.html`: each detection with its region, scores, and what NMS removed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from lib.backbones.device import pick_device
from lib.boxes.boxes import Boxes
from lib.datasets import image_files as pictures
from lib.detection import many_images as running
from lib.detection import rows
from lib.detection import trace as tracing
from lib.detection.candidates import Candidates
from lib.evaluation import coco_results
from lib.evaluation.inputs import Inputs
from lib.images.decode import Image, read_image
from lib.parallel.clock import Clock
from lib.parallel.processes import workers
from lib.report import drawing, page, page_trace
from lib.selective_search import selective_search, settings
from lib.stage import params, pipeline
from lib.stage.errors import InputError
from lib.storage import tables


def predict(asked: argparse.Namespace) -> None:
    """Everything that the docstring of the module says."""
    root, ids = pictures.find(asked.images)
    row, files = rows.row(asked.method, pipeline.entries())
    schema = {"compute": params.Compute, "data.max_pixels": int, "proposals.selective_search": settings.Settings}
    given = params.validate(params.load(), {**schema, **row.reads()})
    pictures.check(root, ids, given["data.max_pixels"], asked.out, single=asked.trace)
    selection, search = given[row.settings], given["proposals.selective_search"]
    device, clock = pick_device(given["compute"].device, selection.precision), Clock()
    detector = row.detector(files, given, device, clock)

    def read(image_id: str) -> Image:
        return read_image(root, image_id, transpose=True, max_pixels=given["data.max_pixels"])

    def proposals(image_id: str, image: Image) -> Boxes:
        with clock("proposals"):
            return selective_search.search(image, search)[0]

    regions = proposals if detector.wants_proposals else None
    with tempfile.TemporaryDirectory() as scratch:
        candidates = Candidates(Path(scratch), detector.classes, len(ids), selection)
        work = running.detect(detector, ids, read, regions, candidates, clock, device, workers(given["compute"]))
        list(tqdm(work, total=len(ids), unit="image", desc=asked.method))
        candidates.write(asked.out / "detections.parquet")
    spent = clock.milliseconds(len(ids))
    found = tables.read(asked.out / "detections.parquet", tables.DETECTIONS)
    objects = tables.OBJECTS.empty_table().to_pandas()
    inputs = Inputs.of(pd.DataFrame({"image_id": ids}), objects, found, detector.classes)
    tables.write_json(asked.out / "detections.json", coco_results.results(inputs))
    tables.write_json(asked.out / "images.json", coco_results.truth(inputs))
    by_image = tables.groups(found)
    for image_id in ids:
        best = by_image.get(image_id, found.iloc[:0]).nlargest(asked.boxes, "score", keep="first")
        best = best[best["score"] >= asked.min_score][::-1]  # the best lies on top
        labels = [f"{name} {score:.2f}" for name, score in zip(best["class"], best["score"], strict=True)]
        drawing.write_png(asked.out / f"pictures/{image_id}.png", drawing.draw(read(image_id), tables.boxes(best), labels))
    if asked.trace:
        image = read(ids[0])
        scored, size = detector(detector.prepare(image, regions and regions(ids[0], image))), image.shape[1::-1]
        steps = tracing.trace(scored, size, selection)
        data = {"width": size[0], "height": size[1], "source": page.data_uri(image, 1200)}
        data |= tracing.describe(steps, detector.classes, most=40)
        tables.write_text(asked.out / "trace.html", page_trace.page(f"{asked.method}: {ids[0]}", data))
    print(f"{len(ids)} images, {len(found)} detections in {asked.out}; milliseconds: {spent}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description=__doc__)
    parser.add_argument("images", nargs="+", help="image files, folders, patterns")
    parser.add_argument("--method", required=True, help="a row of detect in dvc.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--boxes", type=int, default=8, help="best boxes drawn on an image (8)")
    parser.add_argument("--min-score", type=float, default=float("-inf"), help="least score of a drawn box")
    parser.add_argument("--trace", action="store_true", help="follow one image through the method")
    try:
        predict(parser.parse_args())
    except InputError as error:
        sys.exit(f"ERROR: {error}")
