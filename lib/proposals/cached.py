"""A table of proposals that is computed image by image and never twice.

Each row carries a key made of the image's content, the settings and the code. Whatever an earlier table or a killed
run holds under the same key is taken over; the result is always written afresh and whole.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib.boxes.boxes import Boxes
from lib.stage.errors import Fault, InputError
from lib.storage import tables
from lib.storage.by_image import ByImage

SCHEMA = pa.schema([*tables.PROPOSALS, ("key", pa.string())])
GROUP = 64  # images in one row group
PIECE = 8  # images in one of the pieces that a killed run leaves behind


@dataclass(frozen=True)
class Found:
    """What a search gives back for one image: boxes, descending scores, seconds; or what went wrong."""

    image_id: str
    boxes: Boxes
    scores: np.ndarray
    seconds: float
    error: str = ""


def key(content: str, settings: str) -> str:
    """The key of an image's rows, 16 hexadecimal digits.

    content : hash of the image's file;  settings : what else decides the boxes, the code included, as text
    """
    return hashlib.sha256(f"{content} {settings}".encode()).hexdigest()[:16]


def update(
    target: Path,
    keys: dict[str, str],
    earlier: Path | None,
    scratch: Path,
    search: Callable[[Sequence[str]], Iterable[Found]],
) -> dict[str, float]:
    """Writes the table of the images in `keys` (image_id -> key), in that order.

    earlier : a table to take rows from, or None;  scratch : where finished pieces are kept until the end
    search  : image ids -> `Found` of each, in order
    returns : image_id -> seconds of the images that had to be computed
    Raises InputError naming every image whose search failed, after all others are done and kept.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    sources = [path for path in (earlier, *sorted(scratch.glob("*.parquet"))) if path is not None]
    where: dict[str, Path] = {}
    for path in sources:
        where |= {image_id: path for image_id, known in _keys(path) if keys.get(image_id) == known}
    missing = [image_id for image_id in keys if image_id not in where]
    seconds: dict[str, float] = {}
    faults: list[Fault] = []
    waiting: list[Found] = []
    for number, found in enumerate(search(missing), 1):
        if found.error:
            remedy = "Mend or remove this image; the others are kept"
            faults.append(Fault("proposals failed", found.image_id, found.error, "", remedy))
        else:
            waiting.append(found)
            seconds[found.image_id] = found.seconds
        if waiting and (len(waiting) == PIECE or number == len(missing)):
            # Images of equal content have equal keys; a piece must not take another's name.
            first = waiting[0].image_id
            path = scratch / f"{hashlib.sha256(f'{first} {keys[first]}'.encode()).hexdigest()[:16]}.parquet"
            tables.write(path, pd.concat([_rows(one, keys) for one in waiting], ignore_index=True), SCHEMA)
            where |= {one.image_id: path for one in waiting}
            waiting = []
    if faults:
        raise InputError(faults)
    _assemble(target, list(keys), where)
    return seconds


def _keys(path: Path) -> Iterator[tuple[str, str]]:
    """(image_id, key) of each image in a table; nothing where it is of another kind or broken."""
    try:
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            pairs = file.read_row_group(group, columns=["image_id", "key"]).group_by(["image_id", "key"]).aggregate([])
            yield from zip(pairs["image_id"].to_pylist(), pairs["key"].to_pylist(), strict=True)
    except (pa.ArrowInvalid, OSError, KeyError):
        return


def _rows(found: Found, keys: Mapping[str, str]) -> pd.DataFrame:
    rows = pd.DataFrame(found.boxes, columns=tables.BOX)
    rows.insert(0, "image_id", found.image_id)
    return rows.assign(score=found.scores, key=keys[found.image_id])


def _assemble(target: Path, image_ids: Sequence[str], where: Mapping[str, Path]) -> None:
    """One row group for `GROUP` images, so equal contents give equal bytes however they came about."""
    readers = {path: ByImage(path, SCHEMA) for path in set(where.values())}
    with tables.Writer(target, SCHEMA) as writer:
        for ids in tables.chunks(image_ids, GROUP):
            writer.append(pd.concat([readers[where[one]][one] for one in ids], ignore_index=True))
