"""Reads what the stages wrote about every method, for the report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lib.report import lineage
from lib.report.seeds import Repeated
from lib.report.summary import Method, Table
from lib.stage.pipeline import Entry
from lib.storage import tables

# Kinds of maps, in lib/visualization/attribution.py, as a reader knows them.
NAMES = {
    "gradient": "gradient", "guided": "guided backpropagation", "deconvnet": "deconvnet", "grad_cam": "Grad-CAM",
    "hires_cam": "HiResCAM", "guided_grad_cam": "guided Grad-CAM", "occlusion": "occlusion",
    "centre": "centre, the baseline",
}
SEEN = "results/metrics/visualization"
RANDOM = {"random: head": "head", "and half": "half", "and all": "all"}
# Stages whose time is not the training of a method: the data and the proposals of selective search serve all of them.
SHARED = ("stages.fetch", "stages.make_digits", "stages.prepare", "stages.propose")
DETECT, MODELS = "stages.detect", "data/models/"


class Files:
    """The folders under `results` and `data/models`, through the stage's declared deps.

    dep     : path -> the same path, if declared (`run.Life.dep`);  entries : of every stage
    """

    def __init__(self, dep: Callable[[str], Path], entries: Mapping[str, Entry]) -> None:
        self._dep, self.entries = dep, entries

    def json(self, path: str) -> Any:
        """What a stage wrote there."""
        return tables.read_json(self._dep(path))

    def folder(self, path: str, wanted: Sequence[str] | None = None) -> dict[str, Any]:
        """The JSON files of a folder by name without the suffix, sorted: those in `wanted`, or all without."""
        names = [file.stem for file in self._dep(path).glob("*.json")] if wanted is None else wanted
        return {name: self.json(f"{path}/{name}.json") for name in sorted(names)}

    def size(self, path: str) -> int:
        """Bytes of a file, or of all files in a folder."""
        root = self._dep(path)
        return sum(file.stat().st_size for file in (root.rglob("*") if root.is_dir() else [root]) if file.is_file())

    def proposals(self) -> dict[str, Any]:
        """Metrics of every table of proposals."""
        return self.folder("results/metrics/proposals", self.rows("results/metrics/proposals"))

    def rows(self, folder: str) -> list[str]:
        """Names that the stages of dvc.yaml write below a folder and that are there: without files left by a row that
        was removed, and without rows that have not run, as in a report of some (`dvc repro --single-item report`)."""
        outs = [Path(out) for entry in self.entries.values() for out in entry.outs]
        return [out.stem for out in outs if out.parent.as_posix() == folder and out.exists()]


def method(files: Files, name: str, repeated: Repeated | None = None) -> Method:
    """One method: what `evaluate` and `detect` wrote of it, and the time of the stages that made its models.

    repeated : its runs with several seeds
    """
    detecting = [entry for entry in makers(files, name) if entry.script == DETECT]
    parts: dict[str, float | None] = dict(files.json(f"results/speed/{name}.json"))
    if any(entry.roles["regions"].endswith(".parquet") for entry in detecting):  # made once for all that read it
        parts = {**files.json("results/speed/selective_search.json"), **parts}
    classes, missed, effects = (
        files.json(f"results/plots/{plot}/{name}.json") for plot in ("classes", "missed", "error_effects")
    )
    return Method(
        name,
        files.json(f"results/metrics/{name}.json"),
        parts,
        training_seconds(files, name),
        sum(files.size(dep) for dep in {dep for entry in detecting for dep in entry.deps} if dep.startswith(MODELS)),
        classes,
        missed,
        effects,
        repeated.figures if repeated else {},
    )


def has_run(files: Files, name: str, images: int) -> bool:
    """Whether a method's figures are there, of so many test images, and the models and detections that they are of: DVC
    deletes what it is about to make again, but leaves what a row that is not asked for made of another data set."""
    detecting = [entry for entry in makers(files, name) if entry.script == DETECT]
    paths = {out for entry in (files.entries[f"evaluate@{name}"], *detecting) for out in entry.outs}
    paths |= {dep for entry in detecting for dep in entry.deps if dep.startswith(MODELS)}
    there = all(Path(path).exists() for path in paths)
    return there and files.json(f"results/metrics/{name}.json")["images"] == images


def makers(files: Files, name: str) -> list[Entry]:
    """The stage that wrote a method's detections, and all before it."""
    table = f"data/detections/{name}.parquet"
    (last,) = (entry for entry in files.entries.values() if table in entry.outs)
    return [last, *(files.entries[stage] for stage in lineage.before(last.name, files.entries))]


def training_seconds(files: Files, name: str) -> float | None:
    """Seconds of all stages before a method's detections, those in SHARED left out; None where one left no record."""
    stages = [entry.name for entry in makers(files, name)[1:] if entry.script not in (*SHARED, DETECT)]
    costs = files.folder("results/cost")
    return sum(float(costs[stage]["seconds"]) for stage in stages) if all(stage in costs for stage in stages) else None


def looked_at(files: Files) -> list[Table]:
    """A table for each method of `visualize`: how far its maps may be believed."""
    columns = ["map", "pointing", "energy", "deletion", "insertion", "empty", *RANDOM]
    made = []
    for name, figures in files.folder(SEEN, files.rows(SEEN)).items():
        kinds = {kind: NAMES[kind] for kind in figures if kind in NAMES}
        rows = [
            [text, *(figures[kind][key] for key in (*columns[1:6], *RANDOM.values()))] for kind, text in kinds.items()
        ]
        note = (
            f"{figures['boxes']} boxes, {figures['right']} of them on an object of their class. Pointing: share of "
            "maps whose maximum lies in the object; energy: share of the map in it; hold both against the baseline. "
            "Area under the deletion curve (low is good) and the insertion curve (high is good). Random: rank "
            "correlation with the map of a network whose head, and half or all of the layers before it, are random: "
            "near 0 for a map that shows what was learnt; guided backpropagation and the deconvnet are known to stay."
        )
        made.append(Table(f"What {name} looks at", columns, rows, note))
    return made


def charts(files: Files, methods: Sequence[Method]) -> dict[str, Any]:
    """What the page draws: see `page.page`."""
    names = [method.name for method in methods]
    curves = files.folder("results/plots/precision_recall", names)
    classes = [str(row["class"]) for row in methods[0].classes if row["class"] != "all classes"] if methods else []
    class_curves = {
        label: {
            name: [[0, rows[0][1]], *rows] if (rows := _points(curves[name], "recall", "precision", label)) else []
            for name in names
        }
        for label in ["all classes", *classes]
    }
    speed = {
        method.name: [[method.milliseconds, method.metrics["voc10_map"]]] for method in methods if method.milliseconds
    }
    iou = files.folder("results/plots/recall_iou", files.rows("results/plots/recall_iou"))
    boxes = files.folder("results/plots/recall_boxes", files.rows("results/plots/recall_boxes"))
    per_image = "proposals per image"
    return {
        "methods": names,
        "classes": classes,
        "precision_recall": class_curves,
        "errors": files.folder("results/plots/errors", names),
        "effects": files.folder("results/plots/error_effects", names),
        "curves": {
            "Accuracy against speed": {
                "x": "ms per image", "y": "voc10 mAP", "log": True, "dots": True, "series": speed,
            },
            "Recall of the proposals against IoU threshold": _lines(iou, "iou", "recall", "IoU threshold", unit=True),
            "Recall at IoU threshold 0.5 against proposals": _lines(
                boxes, "boxes", "recall_50", per_image, unit=True, log=True
            ),
            "Recall at IoU threshold 0.7 against proposals": _lines(
                boxes, "boxes", "recall_70", per_image, unit=True, log=True
            ),
            **_losses(files.folder("results/plots/loss", files.rows("results/plots/loss"))),
        },
    }


def _lines(rows: Mapping[str, Any], x: str, y: str, label: str, **options: bool) -> dict[str, Any]:
    """A chart of one line for each name; label : of the x axis."""
    series = {name: _points(values, x, y) for name, values in rows.items()}
    return {"x": label, "y": y.split("_")[0], **options, "series": series}


def _losses(rows: Mapping[str, Any]) -> dict[str, Any]:
    """One chart for each training stage, a line for each part of its loss, averaged over a fiftieth of the run."""
    loss_charts = {}
    for name, values in rows.items():
        parts = [key for key in dict.fromkeys(key for row in values for key in row) if key != "iteration"]
        series = {part: _smooth(_points(values, "iteration", part)) for part in parts}
        loss_charts[f"Loss of {name}"] = {"x": "iteration", "y": "loss", "zero": True, "series": series}
    return loss_charts


def _points(rows: Sequence[Mapping[str, Any]], x: str, y: str, label: str | None = None) -> list[list[float | None]]:
    return [[row[x], row.get(y)] for row in rows if label is None or row["class"] == label]


def _smooth(points: list[list[float | None]]) -> list[list[float | None]]:
    """Means of consecutive points, about fifty of them: a loss by iteration is mostly noise."""
    width = max(1, len(points) // 50)
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    means = []
    for group in groups:
        known = [point[1] for point in group if point[1] is not None]
        means.append([group[len(group) // 2][0], sum(known) / len(known) if known else None])
    return means


class Split(Protocol):
    """What the introduction says of the images: an `ImageSet` of the test split."""

    classes: list[str]

    def __len__(self) -> int: ...


def introduction(image_set: Split, root: str, left_out: Sequence[str]) -> str:
    """What was compared, and which methods were not as they have not run."""
    missing = f" Not run on these images, so not compared: {', '.join(left_out)}." if left_out else ""
    return (
        f"Data: {root}. {len(image_set)} test images, {len(image_set.classes)} classes: "
        f"{', '.join(image_set.classes)}. "
        f"Made by `dvc repro report` from what the other stages wrote.{missing}"
    )
