"""What is legal in a data set but will probably spoil a result."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import pandas as pd

from lib.datasets.check import Dataset
from lib.datasets.splits import SPLITS
from lib.datasets.units import per_cent

_ORIENTATION, _ENCODING = "orientation not told by the size", "class name of unsure encoding"
_DARK, _NEGATIVE = "dark image", "image without annotation"


def cautions(dataset: Dataset, few_objects: int = 20) -> list[str]:
    """One or two sentences for each caution, in a fixed order.

    few_objects : a class with fewer objects in train and val together is reported
    """
    units = per_cent(dataset.images, dataset.objects)
    return [*_origin(dataset), *units, *_leaks(dataset.images), *_few(dataset, few_objects), *_doubtful(dataset)]


def _origin(dataset: Dataset) -> Iterator[str]:
    """Signs that boxes are counted from another origin than `box_origin` says."""
    if not dataset.extremes:
        return
    low = min(dataset.extremes["min xmin"], dataset.extremes["min ymin"])
    high = max(dataset.extremes["max xmax - width"], dataset.extremes["max ymax - height"])
    origin = dataset.settings.box_origin
    seen = f"the smallest corner is {low:g} and the largest {high:+g} from the image's side"
    if low == 0 and high == 0 and origin != "half-open":
        yield (
            f"Corners of 0 and of the image's full side both occur, which no inclusive counting allows ({seen}): "
            "edges counted from 0. Set box_origin: half-open."
        )
    elif low == 0 and high < 0 and origin != 0:
        yield f"Data look 0-based ({seen}). Set box_origin: 0."
    elif low >= 1 and high == 0 and origin != 1:
        yield f"Data look 1-based ({seen}). Set box_origin: 1."


def _leaks(images: pd.DataFrame) -> Iterator[str]:
    """Images of equal content: in several splits, or several times in one."""
    groups = images.groupby("content")
    across = [group for _, group in groups if group["split"].nunique() > 1]
    within = [group for _, group in groups if len(group) > group["split"].nunique()]
    if across:
        first = " and ".join(sorted(min(across, key=lambda group: group["image_id"].min())["image_id"])[:2])
        yield f"{len(across)} images stand in two splits as files of equal content, so figures will flatter: {first}."
    if within:
        first = " and ".join(sorted(min(within, key=lambda group: group["image_id"].min())["image_id"])[:2])
        yield f"{len(within)} images occur several times in one split: {first}."


def _few(dataset: Dataset, few_objects: int) -> Iterator[str]:
    """Splits without images or objects, classes that are missing or rare."""
    split_of = dataset.images.set_index("image_id")["split"]
    object_split = dataset.objects["image_id"].map(split_of)
    # The word "draws" stays: the data report is an output of the pipeline and keeps its bytes.
    for split in SPLITS:
        classes = dataset.objects.loc[object_split == split, "class"]
        if not (split_of == split).any():
            without = "Where its list is missing, data.splits: hash draws all splits."
            empty = "Its list is there, but no image that it names can be used: fill it."
            yield f"Split {split} has no images. {empty if split in dataset.lists else without}"
        elif classes.empty:
            yield f"Split {split} has no objects."
        elif absent := [name for name in dataset.classes if name not in set(classes)]:
            yield f"Split {split} has no objects of {', '.join(absent)}."
    for_training = dataset.objects.loc[object_split.isin(["train", "val"]) & ~dataset.objects["crowd"], "class"]
    counts = Counter(for_training)
    rare = [f"{name} ({counts[name]})" for name in dataset.classes if 0 < counts[name] < few_objects]
    if rare:
        yield f"Few objects for training, fewer than {few_objects}: {', '.join(rare)}."


def _doubtful(dataset: Dataset) -> Iterator[str]:
    spellings = defaultdict(list)
    for name in dataset.classes:
        spellings[name.casefold()].append(name)
    for names in spellings.values():
        if len(names) > 1:
            yield f"Classes {', '.join(names)} differ in capitals alone. If they are one, write it the same everywhere."
    repeated = int(dataset.objects.duplicated(["image_id", "class", "x1", "y1", "x2", "y2"]).sum())
    if repeated:
        yield f"{repeated} objects repeat another of the same class and box."
    counts = Counter(note.kind for note in dataset.notes)
    if counts[_NEGATIVE]:
        names = [note.where for note in dataset.notes if note.kind == _NEGATIVE]
        yield (
            f"{len(names)} of {len(dataset.images)} images have no annotation and count as images without objects: "
            f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}. If they were forgotten, annotate them."
        )
    if counts[_DARK]:
        first = next(note for note in dataset.notes if note.kind == _DARK)
        share = f"{counts[_DARK]} of {len(dataset.images)} images ({counts[_DARK] / len(dataset.images):.0%})"
        yield (
            f"{share} use less than a quarter of the range of values, first {first.where}: {first.problem}. "
            "Of 16 bits the upper eight count: if the files hold fewer, 12 say, scale them up (docs/usage.md has the "
            "command)."
        )
    if counts[_ORIENTATION]:
        yield f"{counts[_ORIENTATION]} images are turned by EXIF without a size that tells whether their boxes are."
    if counts[_ENCODING]:
        first = next(note for note in dataset.notes if note.kind == _ENCODING)
        yield f"A class name may be misread: {first.where}: {first.problem}."
