"""Two revisions of one method: the difference of their averages with an interval, and every object that changed.

``python -m stages.compare REV_A REV_B --method fast [--out DIR]``: a revision is what Git resolves, the name of an
experiment, or `workspace`. Detections and tables come from DVC's cache, nothing is checked out. Writes
`DIR/changes.json` and a picture of each changed image, with A's boxes on the left and B's on the right.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from lib.evaluation import inputs
from lib.evaluation.inputs import Inputs
from lib.evaluation.settings import Evaluate, Report
from lib.images.image_set import ImageSet, Splits
from lib.report import bootstrap, changes, drawing, revisions
from lib.report.outcomes import Outcomes
from lib.stage import params
from lib.stage.errors import Failures, Fault, InputError
from lib.storage import outputs, tables


def load(revision: str, method: str, splits: list[str], scratch: Path) -> tuple[Inputs, Path]:
    """The detections of a method at a revision with that revision's objects, and the folder of its tables."""
    detections = revisions.fetch(revision, f"data/detections/{method}.parquet", scratch)
    folder = revisions.fetch(revision, "data/tables", scratch)
    return inputs.read(detections, folder / "objects.parquet", splits), folder


def compare(options: argparse.Namespace) -> None:
    """See the module's docstring."""
    outputs.check([options.out / "changes.json", options.out / "0000.png"], "--out")
    schema = {"evaluate": Evaluate, "report": Report, "splits": Splits, "data.root": str}
    values = params.validate(params.load(), schema)
    settings, scoring = values["report"], values["evaluate"]
    names = options.first, options.second
    with tempfile.TemporaryDirectory() as scratch:
        (first, _), (second, folder) = (
            load(name, options.method, values["splits"].test, Path(scratch) / str(k)) for k, name in enumerate(names)
        )
        image_set = ImageSet(values["data.root"], folder)
    try:
        changed = changes.changes(first, second, scoring.iou, options.moved)
    except ValueError as error:
        remedy = "Compare revisions with the same data"
        raise InputError([Fault("other data", f"{names[0]}, {names[1]}", str(error), "", remedy)]) from error
    intervals, (pair,) = bootstrap.compare(
        {"B": Outcomes.of(second, scoring.iou), "A": Outcomes.of(first, scoring.iou)}, settings.resamples,
        settings.seed, settings.level, settings.measure, scoring.levels,
    )
    for letter, name in zip("AB", names, strict=True):
        print(f"{letter} {name}: {settings.measure} {_number(intervals[letter].value)}")
    print(
        f"B - A: {_number(pair.difference.value, '+')}, {settings.level:.0%} confidence interval ({settings.resamples} "
        f"resamples) {_number(pair.difference.low, '+')} to {_number(pair.difference.high, '+')}, "
        f"{'significant' if pair.significant else 'not significant'}"
    )
    counts = {kind: sum(change.kind == kind for change in changed) for kind in ("gained", "lost", "moved")}
    print(f"Objects: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    records, failures = changes.records(changed), Failures()
    for record in records:
        print(f"{record['image_id']} ({record['picture']}): {'; '.join(map(str, record['changes']))}")
    images = [{**record, "changes": [*map(str, record["changes"])]} for record in records]
    tables.write_json(options.out / "changes.json", {"first": names[0], "second": names[1], **counts, "images": images})
    for record in tqdm(records, unit="image", desc="pictures", disable=None):
        with failures(record["image_id"], "The pictures of the others and changes.json are there"):
            picture = changes.picture(image_set.image(record["image_id"]), record["changes"])
            drawing.write_png(options.out / record["picture"], picture)
    print(f"Pictures and changes.json are in {options.out}")
    failures.check()


def _number(value: float | None, sign: str = "") -> str:
    return "none" if value is None else f"{value:{sign}.4f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument("first", metavar="REV_A")
    parser.add_argument("second", metavar="REV_B", nargs="?", default=revisions.WORKSPACE)
    parser.add_argument("--method", required=True, help="whose detections to compare")
    parser.add_argument("--out", type=Path, default=Path(".scratch/compare"), help="folder for the pictures")
    parser.add_argument("--moved", type=float, default=0.9, help="IoU of both boxes below which an object moved (0.9)")
    try:
        compare(parser.parse_args())
    except InputError as error:
        sys.exit(f"ERROR: {error}")
