"""Sets of 164 images of one class cut from PASCAL VOC 2007, as a newcomer has them: what presets/photographs reaches.

    python -m benchmarks.one_class [--classes cat horse bicycle] [--row faster_joint] [--root FOLDER]

A set's training images are 164 of VOC's trainval that show the class, drawn by its name; its test images are all
others that do. Objects of other classes are not annotated. Each set is trained twice by `dvc repro` in a copy of the
working tree, which stays in .scratch: once as it comes, for the figures on test; and once on four fifths, for those on
the last fifth (val), for the score from which boxes have the best mean F1 over the sets (`predict` draws from
`lib.report.predictions.DRAWN_FROM`). A killed run goes on; a second one runs again only what has changed; other classes
join those of before. Results: results/benchmarks/one_class.json.
"""

import argparse
import random
import shutil
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from benchmarks.selective_search import ROOT
from benchmarks.voc import SHARED, origin
from lib.evaluation import inputs
from lib.evaluation.matching import IGNORED, RIGHT, match
from lib.report.lineage import before
from lib.stage import pipeline
from lib.stage.errors import Fault, InputError
from lib.storage import tables
from tools import choose, preset

RESULT = ROOT / "results/benchmarks/one_class.json"
SCRATCH = ROOT / ".scratch/benchmarks/one_class"
PRESET = "photographs"
IMAGES = 164
LISTS = {"data.lists.train": "train", "data.lists.test": "test"}
PARTS = {"test": {}, "val": choose.HELD_OUT}
FIGURES = ("voc10_map", "voc07_map", "coco_map", "images", "objects")
THRESHOLDS = np.arange(-1.0, 1.0, 0.05).round(2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", nargs="+", default=["cat", "horse", "bicycle"])
    parser.add_argument("--row", default="faster_joint", help="of evaluate in dvc.yaml")
    parser.add_argument("--root", default=SHARED, help="folder VOCdevkit, with VOC2007 in it")
    options = parser.parse_args()
    voc = Path(options.root) / "VOC2007"
    if options.root == SHARED and not voc.exists():
        print("one_class: PASCAL VOC 2007 is not here, nothing measured; name its folder: --root FOLDER")
        return 0
    for name in options.classes:
        folder = SCRATCH / name
        try:
            cut(voc, name, folder / "VOCdevkit/VOC2007")
        except InputError as error:
            sys.exit(f"ERROR: {error}")
        parts = {part: run(folder, part, options.row) for part in PARTS}
        measured = {part: figures(copy, options.row) for part, copy in parts.items()}
        row = keep(options.row, name, {**measured, "f1": f1_scores(parts["val"], options.row)})
        print(f"{name}: voc10 {measured['test']['voc10_map']:.3f}", flush=True)
    best = row["f1"][f"{row['threshold']:g}"]
    print(f"{options.row}: the best mean F1 on val, {best:.3f}, is from {row['threshold']:g} up", flush=True)
    return 0


def keep(row: str, name: str, measured: dict[str, Any]) -> dict[str, Any]:
    """Writes the figures of a class among those of the row's other classes, and the mean F1 of all of them."""
    rows = tables.read_json(RESULT)["rows"] if RESULT.exists() else {}
    sets = {**rows.get(row, {}).get("sets", {}), name: {**measured, **origin()}}
    levels = measured["f1"]
    mean = {least: round(float(np.mean([of["f1"][least] for of in sets.values()])), 3) for least in levels}
    best = float(max(mean, key=lambda least: mean[least]))
    kept = {"sets": dict(sorted(sets.items())), "threshold": best, "f1": mean}
    tables.write_json(RESULT, {"what": (__doc__ or "").split("\n")[0], "rows": {**rows, row: kept}})
    return kept


def cut(voc: Path, name: str, target: Path) -> None:
    """Writes the set of class `name` in VOC's layout; nothing where it is there already. Raises InputError where the
    folder is none of VOC 2007, or has too few images of the class."""
    if target.exists():
        return
    lists = [voc / f"ImageSets/Main/{part}.txt" for part in ("train", "val")]
    if missing := [path for path in lists if not path.is_file()]:
        raise InputError([Fault("no VOC", str(path), "is not there", "", "Name VOCdevkit: --root") for path in missing])
    annotations = {path.stem: ElementTree.parse(path).getroot() for path in sorted((voc / "Annotations").glob("*.xml"))}
    listed = [line for path in lists for line in path.read_text().split()]
    ids = [image_id for image_id in sorted(listed) if image_id in annotations and shows(annotations[image_id], name)]
    if len(ids) <= IMAGES:
        problem, allowed = f"{len(ids)} images show {name!r}", f"more than the {IMAGES} to train on"
        raise InputError([Fault("few images", str(voc), problem, allowed, "Take another class of VOC")])
    chosen = set(random.Random(name).sample(ids, IMAGES))
    draft = target.with_name("draft")
    shutil.rmtree(draft, ignore_errors=True)
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (draft / part).mkdir(parents=True)
    for image_id in ids:
        root = annotations[image_id]
        for other in [thing for thing in root.findall("object") if thing.findtext("name") != name]:
            root.remove(other)
        ElementTree.ElementTree(root).write(draft / f"Annotations/{image_id}.xml")
        shutil.copy2(voc / f"JPEGImages/{image_id}.jpg", draft / "JPEGImages")
    for part, members in (("train", chosen), ("test", set(ids) - chosen)):
        (draft / f"ImageSets/Main/{part}.txt").write_text("".join(f"{image_id}\n" for image_id in sorted(members)))
    draft.rename(target)


def shows(annotation: ElementTree.Element, name: str) -> bool:
    """True where an object of the class is annotated and not difficult."""
    return any(
        thing.findtext("name") == name and thing.findtext("difficult") != "1" for thing in annotation.iter("object")
    )


def run(folder: Path, part: str, row: str) -> Path:
    """The copy of the working tree in which the row has been run on the set."""
    copy, changes = folder / part, {"data.root": str(folder / "VOCdevkit"), **LISTS, **PARTS[part]}
    preset.bring(ROOT, copy)
    (copy / "params.yaml").write_text(preset.own_params(PRESET, changes=changes), encoding="utf-8")
    preset.connect(ROOT, copy)
    if preset.repro(copy, f"{preset.ROW}{row}"):
        sys.exit(f"the set in {folder} failed: see above")
    return copy


def figures(copy: Path, row: str) -> dict[str, Any]:
    """The row's figures and the seconds of each stage that it needs."""
    metrics = tables.read_json(copy / f"results/metrics/{row}.json")
    stages = sorted(before(f"{preset.ROW}{row}", pipeline.entries()))
    return {**{name: metrics[name] for name in FIGURES}, "seconds": choose.seconds(copy, stages)}


def f1_scores(copy: Path, row: str) -> dict[str, float]:
    """Score, as text -> F1 of the detections from it up, on val."""
    detections = copy / f"data/detections/{row}.parquet"
    scored = inputs.read(detections, copy / "data/tables/objects.parquet", choose.HELD_OUT["splits.test"])
    outcome = match(scored).outcome
    objects = int(scored.objects.counted.sum())
    scores = scored.detections.scores
    return {f"{least:g}": round(f1_score(outcome[scores >= least], objects), 3) for least in THRESHOLDS}


def f1_score(outcome: NDArray[np.int8], objects: int) -> float:
    """2 · precision · recall / (precision + recall) of detections with these outcomes."""
    right = int((outcome == RIGHT).sum())
    return 2 * right / (int((outcome != IGNORED).sum()) + objects)


if __name__ == "__main__":
    sys.exit(main())
