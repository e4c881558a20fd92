"""Reading a table image by image, in any order."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lib.boxes.boxes import Boxes
from lib.stage.errors import Fault, InputError
from lib.storage.tables import BOX, open_parquet, to_arrow

IMAGE_ID = pa.schema([("image_id", pa.string())])
BOXES = pa.schema([(name, pa.float32()) for name in BOX])


class ByImage:
    """A table read image by image in bounded memory: an index of the images' rows, and the last few row groups.

    path   : Parquet file in which the rows of an image are contiguous
    schema : what its columns must be; others are not read. `boxes` needs the columns of a box
    most   : so many rows of an image exist for whoever reads, its first; None: all

    A row group is decoded as a whole, so reading an image at random costs what its group costs: `tables` writes small
    ones. Memory is a few row groups plus one entry per image, whatever the number of rows. Threads may share one:
    neither the Parquet reader nor the cache of groups is safe for two threads at once, so a lock admits one at a time.
    """

    cached_groups = 4

    def __init__(self, path: Path | str, schema: pa.Schema, most: int | None = None) -> None:
        self.path, self.schema = Path(path), schema
        self._file, self._lock = open_parquet(path), threading.Lock()
        missing = [name for name in schema.names if name not in self._file.schema_arrow.names]
        if missing:
            raise InputError(
                [Fault("missing column", str(path), f"there are no columns {missing}",
                       f"columns {schema.names}", "Use a table with these columns")]
            )
        metadata = self._file.metadata
        sizes = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        self._starts = list(accumulate(sizes, initial=0))  # first row of each group, and the end of the table
        whole = self._index()
        self._rows = {key: (first, min(end, first + (most or end))) for key, (first, end) in whole.items()}
        self._cache: OrderedDict[tuple[int, pa.Schema], pa.Table] = OrderedDict()

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._rows

    def __getitem__(self, image_id: str) -> pd.DataFrame:
        """The rows of one image in their order; none where it has none."""
        return self._read(image_id, self.schema).to_pandas()

    def boxes(self, image_id: str) -> Boxes:
        """float32 (R, 4): the box columns of one image; R is 0 where it has none."""
        rows = self._read(image_id, BOXES)
        return np.stack([rows[name].to_numpy() for name in BOX], axis=1)

    def count(self, image_id: str) -> int:
        """Number of rows of one image, which are not read."""
        start, end = self._rows.get(image_id, (0, 0))
        return end - start

    def require(self, image_ids: Iterable[str], remedy: str) -> None:
        """Raises InputError if one of the images has no rows (joins are by key, never by position)."""
        ids = list(image_ids)
        missing = [key for key in ids if key not in self._rows]
        if missing:
            raise InputError(
                [Fault("missing rows", str(self.path),
                       f"has no rows for {missing[0]} ({len(missing)} of {len(ids)} images are missing; "
                       f"the table holds {len(self._rows)} images)", "rows for every image", remedy)]
            )

    def _read(self, image_id: str, schema: pa.Schema) -> pa.Table:
        """The columns of `schema` of one image, checked."""
        start, end = self._rows.get(image_id, (0, 0))
        parts = [schema.empty_table()]
        first, behind = (bisect_right(self._starts, row) for row in (start, end - 1))
        for group in range(first - 1, behind) if start < end else ():
            offset = self._starts[group]
            with self._lock:
                rows = self._group(group, schema)
            parts.append(rows.slice(max(start - offset, 0), end - max(start, offset)))
        where = f"{self.path}, rows of {image_id}"
        return pa.concat_tables([to_arrow(part, schema, where) for part in parts])

    def _group(self, group: int, schema: pa.Schema) -> pa.Table:
        if (group, schema) not in self._cache:
            rows = self._file.read_row_group(group, columns=schema.names, use_threads=False)
            self._cache[group, schema] = rows
        self._cache.move_to_end((group, schema))
        while len(self._cache) > self.cached_groups:
            self._cache.popitem(last=False)
        return self._cache[group, schema]

    def _index(self) -> dict[str, tuple[int, int]]:
        """Image -> its first row and the one behind its last, from the column of keys alone."""
        spans: dict[str, tuple[int, int]] = {}
        last = None
        for group, (offset, end) in enumerate(pairwise(self._starts)):
            table = self._file.read_row_group(group, columns=IMAGE_ID.names, use_threads=False)
            keys = to_arrow(table, IMAGE_ID, f"{self.path}, row group {group}")["image_id"].combine_chunks()
            changes = np.flatnonzero(pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)) + 1
            firsts = [0, *changes.tolist()] if len(keys) else []
            names = keys.take(pa.array(firsts, pa.int64())).to_pylist()
            for name, (first, behind) in zip(names, pairwise([*firsts, end - offset]), strict=True):
                if name != last and name in spans:
                    raise InputError(
                        [Fault("scattered rows", str(self.path), f"the rows of {name} are not contiguous", "",
                               "Sort the table by image_id, keeping the order within an image")]
                    )
                spans[name] = spans[name][0] if name == last else offset + first, offset + behind
                last = name
        return spans
