"""Runs a trained method on your own images, by the same code as `detect`.

``python -m stages.predict --method faster IMAGES... --out DIR [--trace]``: IMAGES are files, folders or patterns.
Writes pictures with the best boxes, `detections.parquet`, COCO's `detections.json` and `images.json` (what its numbers
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
from lib.datasets import image_files
from lib.detection import many_images, rows
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


def predict(options: argparse.Namespace) -> None:
    """See the module's docstring."""
    root, ids = image_files.find(options.images, options.out)
    row, files = rows.row(options.method, pipeline.entries())
    schema = {"compute": params.Compute, "data.max_pixels": int, "proposals.selective_search": settings.Settings}
    values = params.validate(params.load(), {**schema, **row.reads()})
    image_files.check(root, ids, values["data.max_pixels"], options.out, single=options.trace)
    selection, search = values[row.settings], values["proposals.selective_search"]
    device, clock = pick_device(values["compute"].device, selection.precision), Clock()
    detector = row.detector(files, values, device, clock)

    def read(image_id: str) -> Image:
        return read_image(root, image_id, transpose=True, max_pixels=values["data.max_pixels"])

    def proposals(image_id: str, image: Image) -> Boxes:
        with clock("proposals"):
            return selective_search.search(image, search)[0]

    regions = proposals if detector.wants_proposals else None
    with tempfile.TemporaryDirectory() as scratch:
        candidates = Candidates(Path(scratch), detector.classes, len(ids), selection)
        work = many_images.detect(detector, ids, read, regions, candidates, clock, device, workers(values["compute"]))
        list(tqdm(work, total=len(ids), unit="image", desc=options.method))
        candidates.write(options.out / "detections.parquet")
    spent = clock.milliseconds(len(ids))
    detections = tables.read(options.out / "detections.parquet", tables.DETECTIONS)
    objects = tables.OBJECTS.empty_table().to_pandas()
    inputs = Inputs.of(pd.DataFrame({"image_id": ids}), objects, detections, detector.classes)
    coco_results.write(options.out, inputs, "images.json")
    image_detections = tables.groups(detections)
    for image_id in ids:
        best = image_detections.get(image_id, detections.iloc[:0])
        picture = drawing.draw_best(read(image_id), best, options.boxes, options.min_score)
        drawing.write_png(options.out / image_files.PICTURES / f"{image_id}.png", picture)
    if options.trace:
        image = read(ids[0])
        size = image.shape[1::-1]
        scored = detector(detector.prepare(image, regions and regions(ids[0], image)))
        steps = tracing.trace(scored, size, selection)
        data = {"width": size[0], "height": size[1], "source": page.data_uri(image, 1200)}
        data |= tracing.describe(steps, detector.classes, most=40)
        tables.write_text(options.out / "trace.html", page_trace.page(f"{options.method}: {ids[0]}", data))
    print(f"{len(ids)} images, {len(detections)} detections in {options.out}; milliseconds: {spent}")


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
