"""The data set as the tables hold it, with everything that is wrong in the files found before any long work.

`load` reads, checks every image and every box, and collects all faults. Strict: any fault stops, with all of
them in the message. Lenient: what `records.LENIENT` lists is repaired or left out, and counted. In both modes a few
boxes smaller than `min_box_size` are left out and counted (`fit.small_objects`), corners of 0 in 1-based data are
clipped and counted, and missing sizes are filled in.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.datasets import layout
from lib.datasets.fit import Extremes, Fitted, fit, small_objects
from lib.datasets.orientation import settle
from lib.datasets.records import LENIENT, Record
from lib.datasets.settings import DataSettings
from lib.datasets.splits import assign
from lib.datasets.units import Units
from lib.images.decode import checked_header, content_of, decode, read_bytes
from lib.images.header import Header
from lib.stage.errors import Fault, InputError
from lib.stage.params import suggestion
from lib.storage.tables import BOX, IMAGES, OBJECTS

DARK = 64
"""An image with no value from here on uses less than a quarter of the range of 8 bits: it may hold 12 bits in 16."""


@dataclass(frozen=True)
class Dataset:
    """The checked data set.

    images   : columns of `tables.IMAGES`, one row per image, sorted by image_id; those without objects too
    objects  : columns of `tables.OBJECTS`, sorted by image_id and object; boxes inside the image
    classes  : names in the order of the labels
    faults   : what lenient mode repaired or left out; empty in strict mode
    notes    : legal things that the report counts
    extremes : smallest corner, and largest corner minus image side, as the files count them; VOC only
    lists    : the sets that have a list, be it empty: train, val, trainval, test
    """

    format: str
    settings: DataSettings
    images: pd.DataFrame
    objects: pd.DataFrame
    classes: list[str]
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    extremes: dict[str, float] = field(default_factory=dict)
    lists: set[str] = field(default_factory=set)

    @property
    def repairs(self) -> dict[str, int]:
        """Number of faults that were repaired or left out, by kind."""
        return dict(sorted(Counter(fault.kind for fault in self.faults).items()))


def load(
    root: str | Path,
    settings: DataSettings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read and check the data set under `root`.

    workers  : threads that decode
    progress : called with (images done, images in all)
    raises   : InputError with every fault that the mode does not tolerate
    """
    source = layout.read(root, settings.format, settings.box_origin, settings.followed)
    split_of, list_faults = assign(source, settings)
    faults, notes = source.faults + list_faults, list(source.notes)
    records = sorted(source.records, key=lambda record: record.image_id)
    unlisted = [record.image_id for record in records if record.image_id not in split_of]
    notes += [Fault("image in no list", image_id, "is left out") for image_id in unlisted]
    records = [record for record in records if record.image_id in split_of]

    images: list[tuple[Any, ...]] = []
    objects: list[Fitted] = []
    extremes, units = Extremes(), Units()
    for done, (record, header, content) in enumerate(_inspected(root, records, settings, workers), 1):
        faults += record.faults
        notes += record.notes
        if progress:
            progress(done, len(records))
        if header is None:
            continue
        transpose, size_faults, size_notes = settle(record, header)
        faults += size_faults
        notes += size_notes
        if not record.readable or any(fault.kind == "size fits neither orientation" for fault in size_faults):
            continue
        if record.annotation is None and not record.sets:
            notes.append(Fault("image without annotation", record.image_id, "counts as an image without objects"))
        width, height = header.size(transpose)
        if not units.see(record.items, width, height, source.format):
            continue
        extremes.see(record.items, width, height)
        images.append((record.image_id, split_of[record.image_id], width, height, transpose, content))
        objects += fit(record, width, height, settings, source.format, faults, notes)
    # Boxes that are no pixels explain other faults, and come first.
    faults = units.faults() + faults + small_objects(notes, units.boxes)
    classes, unknown = _classes(objects, settings.classes)
    faults += unknown
    objects = [fitted for fitted in objects if fitted[1].name in classes]

    fatal = [fault for fault in faults if settings.faults == "strict" or fault.kind not in LENIENT]
    if not fatal and not objects:
        problem = f"of {len(records)} images in the splits {len(images)} can be used, and none holds an object"
        fatal = [Fault("no objects", str(root), problem, "", "Check data.root and data.classes"), *faults]
    if fatal:
        raise InputError(fatal)
    written = extremes.as_written(settings.box_origin) if source.format == "voc" else {}
    return Dataset(
        source.format, settings, _image_table(images), _object_table(objects), classes, faults, notes, written,
        source.sets,
    )  # fmt: skip


def _inspected(
    root: str | Path, records: list[Record], settings: DataSettings, workers: int
) -> Iterator[tuple[Record, Header | None, str]]:
    """Each record with its image's header and content, in order; no header, and a fault, if unreadable."""

    def inspect(record: Record) -> tuple[Record, Header | None, str]:
        try:
            data = read_bytes(root, record.image_id)
            header = checked_header(data, record.image_id, settings.max_pixels)
            # In full: only that detects a truncated file.
            brightest = int(decode(data, record.image_id, transpose=False).max())
        except InputError as error:
            record.faults += error.faults
            return record, None, ""
        if brightest < DARK:
            record.notes.append(Fault("dark image", record.image_id, f"its brightest value is {brightest} of 255"))
        return record, header, content_of(data)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(inspect, records)


def _classes(objects: list[Fitted], listed: list[str] | None) -> tuple[list[str], list[Fault]]:
    """The class list, and a fault for each class of an object that is not in it."""
    counts = Counter(item.name for _, item, _ in objects)
    if listed is None:
        return sorted(counts), []
    unused = [name for name in listed if name not in counts]
    unused_text = f"; listed but without objects: {', '.join(unused)}" if unused else ""
    faults = []
    for name in sorted(set(counts) - set(listed)):
        first = next(item.where for _, item, _ in objects if item.name == name)
        problem = f"{name!r} is not listed and is the class of {counts[name]} objects, first in {first}{unused_text}"
        same_name = next((other for other in listed if other.casefold() == name.casefold()), None)
        hint = f"Did you mean {same_name}? " if same_name else f"{suggestion(name, listed)} ".lstrip()
        remedy = f"{hint}Name it as the annotations do, or set data.faults: lenient to leave these objects out"
        faults.append(Fault("class not in the list", "data.classes", problem, f"{listed}", remedy))
    return listed, faults


def _image_table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=IMAGES.names)
    return frame.astype({"width": np.int32, "height": np.int32, "transpose": bool})


def _object_table(objects: list[Fitted]) -> pd.DataFrame:
    rows = [
        (record.image_id, item.number, item.name, *box, item.difficult, item.truncated, item.crowd)
        for record, item, box in objects
    ]
    kinds = {"object": np.int32} | dict.fromkeys(BOX, np.float32)
    return pd.DataFrame(rows, columns=OBJECTS.names).astype(kinds)
