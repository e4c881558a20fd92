"""A table of proposals that is computed image by image, each image only once.

Each row carries a key made of the image's content, the settings and the code. Whatever an earlier table or a killed
run holds under the same key is reused; the result is always written anew and in full.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
PIECE = 8  # images in a row group of a table, and in one of the pieces that a killed run leaves behind
OPEN_PIECES = 4  # while the table is put together


@dataclass(frozen=True)
class Found:
    """What a search returns for one image: boxes, descending scores, seconds; or the error."""

    image_id: str
    boxes: Boxes
    scores: np.ndarray
    seconds: float
    error: str = ""


def key(content: str, settings: str) -> str:
    """The key of an image's rows, 16 hexadecimal digits.

    content : hash of the image's file;  settings : everything else that decides the boxes, the code included, as text
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

    earlier : a table to reuse rows of, or None;  scratch : where finished pieces are kept until the end
    search  : image ids -> `Found` of each, in order
    returns : image_id -> seconds of the images that had to be computed
    Raises InputError naming every image whose search failed, after all others are done and kept.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    sources = [path for path in (earlier, *sorted(scratch.glob("*.parquet"))) if path is not None]
    path_of: dict[str, Path] = {}
    for path in sources:
        path_of |= {image_id: path for image_id, stored_key in _keys(path) if keys.get(image_id) == stored_key}
    missing = [image_id for image_id in keys if image_id not in path_of]
    seconds: dict[str, float] = {}
    faults: list[Fault] = []
    waiting: list[Found] = []
    for number, result in enumerate(search(missing), 1):
        if result.error:
            remedy = "Fix or remove this image; the others are kept"
            faults.append(Fault("proposals failed", result.image_id, result.error, "", remedy))
        else:
            waiting.append(result)
            seconds[result.image_id] = result.seconds
        if waiting and (len(waiting) == PIECE or number == len(missing)):
            # Named by all that is in it: images of equal content have equal keys, and an image without boxes, which
            # leaves no row to be known by, is searched again and may come first in another piece too.
            contents = " ".join(f"{result.image_id} {keys[result.image_id]}" for result in waiting)
            path = scratch / f"{hashlib.sha256(contents.encode()).hexdigest()[:16]}.parquet"
            tables.write(path, pd.concat([_rows(result, keys) for result in waiting], ignore_index=True), SCHEMA)
            path_of |= {result.image_id: path for result in waiting}
            waiting = []
    if faults:
        raise InputError(faults)
    whole = {path: ByImage(path, SCHEMA) for path in {earlier} & set(path_of.values()) if path is not None}
    piece = lru_cache(OPEN_PIECES)(lambda path: ByImage(path, SCHEMA))  # they lie in the order of the images
    write(target, list(keys), lambda image_id: whole.get(path_of[image_id]) or piece(path_of[image_id]))
    return seconds


def write(target: Path, image_ids: Sequence[str], source: Callable[[str], ByImage]) -> None:
    """The table of these images, in this order, from what `source` says holds the rows of each, with their keys.

    One row group for every `PIECE` images, so equal contents give equal bytes wherever the rows come from.
    """
    with tables.Writer(target, SCHEMA) as writer:
        for ids in tables.chunks(image_ids, PIECE):
            writer.append(pd.concat([source(image_id)[image_id] for image_id in ids], ignore_index=True))


def _keys(path: Path) -> Iterator[tuple[str, str]]:
    """(image_id, key) of each image in a table; none where it is of another kind or broken."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group, columns=["image_id", "key"])
                pairs = rows.group_by(["image_id", "key"]).aggregate([])
                yield from zip(pairs["image_id"].to_pylist(), pairs["key"].to_pylist(), strict=True)
    except (pa.ArrowInvalid, OSError, KeyError):
        return


def _rows(result: Found, keys: Mapping[str, str]) -> pd.DataFrame:
    rows = pd.DataFrame(result.boxes, columns=tables.BOX)
    rows.insert(0, "image_id", result.image_id)
    return rows.assign(score=result.scores, key=keys[result.image_id])

