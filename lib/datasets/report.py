"""The data report: what a person should know about a data set before training on it, as Markdown.

Nothing in it depends on the machine or the time, so an unchanged data set gives an unchanged report.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from lib.datasets.cautions import cautions
from lib.datasets.check import Dataset
from lib.datasets.records import LENIENT
from lib.datasets.splits import SPLITS
from lib.stage.errors import Fault

QUANTILES = (0, 0.1, 0.5, 0.9, 1)


def markdown(dataset: Dataset, few_objects: int = 20, examples: int = 3, quantiles: Sequence[float] = QUANTILES) -> str:
    """The whole report.

    few_objects : a class with fewer objects for training gets a warning
    examples    : places named for each kind of fault or note
    quantiles   : of the box sizes, in [0, 1]
    """
    images, objects = dataset.images, dataset.objects
    warnings = cautions(dataset, few_objects)
    parts = [
        "# Data report",
        f"{len(images)} images, {len(objects)} objects of {len(dataset.classes)} classes, read as {dataset.format}. "
        f"Boxes are in pixels of the decoded image.",
        "## Warnings",
        "\n".join(f"- {warning}" for warning in warnings) or "None.",
        "## Splits",
        _splits(images, objects),
        "## Objects by class",
        "Difficult and crowd objects are among them.",
        _classes(dataset),
        "## Image sizes",
        _sizes(images),
        "## Box sizes",
        "Square root of the area in pixels, and width divided by height, at these shares of the boxes.",
        _boxes(dataset, quantiles),
    ]
    if dataset.extremes:
        written = (f"{name} {value:g}" for name, value in dataset.extremes.items())
        parts += [f"As the files count (box_origin: {dataset.settings.box_origin}): {', '.join(written)}."]
    parts += ["## Repaired or left out (data.faults: lenient)", _kinds(dataset.faults, examples, LENIENT)]
    parts += ["## Also noted", _kinds(dataset.notes, examples, {})]
    return "\n\n".join(parts) + "\n"


def _splits(images: pd.DataFrame, objects: pd.DataFrame) -> str:
    split_of = images.set_index("image_id")["split"]
    object_split = objects["image_id"].map(split_of)
    with_objects = images["image_id"].isin(objects["image_id"])
    rows = []
    for split in SPLITS:
        images_in = images["split"] == split
        objects_in = object_split == split
        flags = [int(objects.loc[objects_in, flag].sum()) for flag in ("difficult", "truncated", "crowd")]
        rows.append([split, images_in.sum(), (images_in & ~with_objects).sum(), objects_in.sum(), *flags])
    return table(["split", "images", "without objects", "objects", "difficult", "truncated", "crowd"], rows)


def _classes(dataset: Dataset) -> str:
    images, objects = dataset.images, dataset.objects
    split_of = images.set_index("image_id")["split"]
    counts = pd.crosstab(objects["class"], objects["image_id"].map(split_of))
    counts = counts.reindex(index=dataset.classes, columns=list(SPLITS), fill_value=0)
    holding = objects.groupby("class")["image_id"].nunique().reindex(dataset.classes, fill_value=0)
    rows = [[name, *counts.loc[name], counts.loc[name].sum(), holding[name]] for name in dataset.classes]
    return table(["class", *SPLITS, "all", "images"], rows)


def _sizes(images: pd.DataFrame, most: int = 10) -> str:
    sizes = images.groupby(["width", "height"]).size().reset_index(name="count")
    sizes = sizes.sort_values(["count", "width", "height"], ascending=[False, True, True])
    rows = [[f"{row.width}x{row.height}", row.count] for row in sizes.head(most).itertuples(index=False, name="Size")]
    rest = len(sizes) - most
    if rest > 0:
        rows.append([f"{rest} other sizes", sizes["count"].iloc[most:].sum()])
    turned = int(images["transpose"].sum())
    return table(["size", "images"], rows) + (f"\n\n{turned} are turned as their EXIF data say." if turned else "")


def _boxes(dataset: Dataset, quantiles: Sequence[float]) -> str:
    objects = dataset.objects
    width, height = objects["x2"] - objects["x1"], objects["y2"] - objects["y1"]
    measures = {"size": np.sqrt(width * height), "aspect": width / height}
    rows = []
    for name in [*dataset.classes, None]:
        selected = objects["class"] == name if name else objects["class"].notna()
        if selected.any():
            for measure, values in measures.items():
                points = np.quantile(values[selected].to_numpy(np.float64), quantiles)
                rows.append([name or "all", measure, *(f"{point:.3g}" for point in points)])
    return table(["class", "measure", *(f"{share:.0%}" for share in quantiles)], rows)


def _kinds(faults: Iterable[Fault], examples: int, handled: dict[str, str]) -> str:
    """A line for each kind: how often, what was done, and the first places."""
    faults_of: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        faults_of[fault.kind].append(fault)
    lines = []
    for kind, group in sorted(faults_of.items()):
        handling = f" ({handled[kind]})" if kind in handled else ""
        lines.append(f"- **{kind}**{handling}: {len(group)}")
        lines += [f"  - {fault.where}: {fault.problem}" for fault in group[:examples]]
        lines += [f"  - and {len(group) - examples} more"] if len(group) > examples else []
    return "\n".join(lines) or "Nothing."


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
