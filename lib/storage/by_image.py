"""Reading a table image by image."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lib.stage.errors import Fault, InputError
from lib.storage.tables import open_parquet, to_arrow


class ByImage:
    """A table read image by image in bounded memory: an index of row groups, and the last few of them.

    path   : Parquet file in which the rows of an image are contiguous
    schema : what its columns must be

    Memory is a few row groups plus one entry per image, whatever the number of rows. Threads may share one: neither the
    Parquet reader nor the cache of groups is safe for two threads at once, so a lock admits one at a time.
    """

    cached_groups = 4

    def __init__(self, path: Path | str, schema: pa.Schema) -> None:
        self.path, self.schema = Path(path), schema
        self._file, self._lock = open_parquet(path), threading.Lock()
        missing = [name for name in schema.names if name not in self._file.schema_arrow.names]
        if missing:
            raise InputError(
                [Fault("missing column", str(path), f"there are no columns {missing}",
                       f"columns {schema.names}", "Use a table with these columns")]
            )
        self._groups: dict[str, list[int]] = {}
        self._cache: OrderedDict[int, tuple[pd.DataFrame, dict[str, slice]]] = OrderedDict()
        for group in range(self._file.num_row_groups):
            keys = self._file.read_row_group(group, columns=["image_id"])["image_id"]
            for key in pc.unique(keys).to_pylist():
                self._groups.setdefault(key, []).append(group)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._groups

    def __getitem__(self, image_id: str) -> pd.DataFrame:
        """The rows of one image in their order; none where it has none."""
        frames = []
        for group in self._groups.get(image_id, []):
            with self._lock:
                frame, slices = self._group(group)
            frames.append(frame.iloc[slices[image_id]])
        if len(frames) == 1:
            return frames[0].reset_index(drop=True)
        return pd.concat(frames, ignore_index=True) if frames else self.schema.empty_table().to_pandas()

    def _group(self, group: int) -> tuple[pd.DataFrame, dict[str, slice]]:
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        frame = self._file.read_row_group(group).to_pandas(ignore_metadata=True)
        frame = to_arrow(frame, self.schema, f"{self.path}, row group {group}").to_pandas()
        slices = _runs(frame["image_id"].to_numpy(), str(self.path))
        self._cache[group] = frame, slices
        while len(self._cache) > self.cached_groups:
            self._cache.popitem(last=False)
        return frame, slices

    def require(self, image_ids: Iterable[str], remedy: str) -> None:
        """Raises InputError if one of the images has no rows (joins are by key, never by position)."""
        ids = list(image_ids)
        missing = [key for key in ids if key not in self._groups]
        if missing:
            raise InputError(
                [Fault("missing rows", str(self.path),
                       f"has no rows for {missing[0]} ({len(missing)} of {len(ids)} images are missing; "
                       f"the table holds {len(self._groups)} images)", "rows for every image", remedy)]
            )


def _runs(keys: Sequence[str], where: str) -> dict[str, slice]:
    starts = [0, *(np.flatnonzero(np.asarray(keys[1:]) != np.asarray(keys[:-1])) + 1)] if len(keys) else []
    ends = [*starts[1:], len(keys)]
    runs: dict[str, slice] = {}
    for start, end in zip(starts, ends, strict=True):
        if keys[start] in runs:
            raise InputError(
                [Fault("scattered rows", where, f"the rows of {keys[start]} are not contiguous", "",
                       "Sort the table by image_id, keeping the order within an image")]
            )
        runs[keys[start]] = slice(int(start), int(end))
    return runs
