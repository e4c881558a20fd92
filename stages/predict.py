"""Runs a trained method on your own images, by the same code as `detect`.

``python -m stages.predict --method faster IMAGES... --out DIR [--trace]``: IMAGES are files, folders or patterns.
Writes pictures with the best boxes, `detections.parquet`, COCO's `detections.json` and `images.json` (what its numbers
mean), and with --trace, for one image, `trace.html`: each detection with its region, scores, and what they hang on, and
what NMS removed. An image that fails is named at the end, the others are written. Exit code 0; 1 where anything failed;
130 after Ctrl-C, when what is done by then is written.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from lib.backbones.device import pick_device
from lib.boxes.boxes import Boxes
from lib.datasets import image_files
from lib.detection import many_images, rows
from lib.detection.candidates import Candidates
from lib.images.decode import Image, read_image
from lib.parallel.clock import Clock
from lib.parallel.processes import workers
from lib.report.predictions import DRAWN_FROM, OF_SVMS, Predictions, check_drawn, drawn_from
from lib.selective_search import selective_search, settings
from lib.stage import params, pipeline
from lib.stage.errors import InputError
from lib.stage.interrupt import HeldBack
from lib.storage import tables
from lib.visualization.looking import looker


def predict(options: argparse.Namespace) -> int:
    """See the module's docstring. Returns the exit code; raises InputError where there is nothing to begin with."""
    check_drawn(options.boxes, options.min_score)
    (root, ids), results = image_files.find(options.images, options.out), Predictions(options.out)
    row, files = rows.row(options.method, pipeline.entries())
    schema = {"compute": params.Compute, "data.max_pixels": int, "proposals.selective_search": settings.Settings}
    values = params.validate(params.load(), {**schema, **row.reads()})
    results.check(root, ids, options.trace)
    selection, search, most = values[row.settings], values["proposals.selective_search"], row.most(values)
    min_score = drawn_from(selection) if options.min_score is None else options.min_score
    device = pick_device(values["compute"].device, selection.precision)
    clock, threads = Clock(device.synchronise), workers(values["compute"])
    detector = row.detector(files, values, device, clock)

    def read(image_id: str) -> Image:
        return read_image("", str(root / image_id), transpose=True, max_pixels=values["data.max_pixels"])

    def proposals(image_id: str, image: Image) -> Boxes:
        with clock.host("proposals"):
            return selective_search.search(image, search)[0][:most]

    regions, done = proposals if detector.wants_proposals else None, list[str]()
    guard = lambda image_id: results.failures(str(root / image_id), "Replace the image or leave it out")  # noqa: E731
    with HeldBack() as interrupt, tempfile.TemporaryDirectory() as scratch:
        candidates = Candidates(Path(scratch), detector.classes, len(ids), selection)
        work = many_images.detect(detector, ids, read, regions, candidates, clock, device, threads, guard)
        for image_id in tqdm(interrupt.until(work), total=len(ids), unit="image", desc=options.method):
            done += [image_id] if image_id else []
        candidates.write(Path(scratch) / "detections.parquet")
        detections = tables.read(Path(scratch) / "detections.parquet", tables.DETECTIONS)
        results.missing = len(ids) - len(done) - len(results.failures.places)
        results.tables(done, detector.classes, detections)
        results.pictures(done, read, detections, options.boxes, min_score, interrupt)
        if options.trace and done:
            score = lambda image: detector(detector.prepare(image, regions and regions(ids[0], image)))  # noqa: E731
            look = looker(row.roles["detector"], files, selection.margins, device)
            results.trace(f"{options.method}: {ids[0]}", lambda: read(ids[0]), score, selection, detector.classes, look)
    summary = f"{len(done)} images, {len(detections)} detections in {options.out}, drawn from {min_score:g}"
    print(f"{summary}; ms: {clock.milliseconds(len(done))}")
    return results.exit_code()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description=__doc__)
    parser.add_argument("images", nargs="+", help="image files, folders, patterns")
    parser.add_argument("--method", required=True, help="a row of detect in dvc.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--boxes", type=int, default=8, help="best boxes drawn on an image (8)")
    parser.add_argument("--min-score", type=float, help=f"least score of a drawn box ({DRAWN_FROM}; SVMs {OF_SVMS})")
    parser.add_argument("--trace", action="store_true", help="follow one image through the method")
    try:
        sys.exit(predict(parser.parse_args()))
    except (InputError, OSError) as error:  # OSError: the disk of temporary files is full
        sys.exit(f"ERROR: {error}")
    except KeyboardInterrupt:
        print("Interrupted: the results are not written, or not all", file=sys.stderr)
        sys.exit(130)
