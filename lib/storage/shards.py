"""Large arrays by image in a few large files: written image by image, resumed shard by shard.

A store is a folder: `index.parquet` (image_id, shard, first row, rows) and, for each named array and shard, one
`NAME-00000.npy` of fixed row length. The index of a store of features has a column `regions`, a digest of the regions
and their order: who reads rows by the number of a region verifies it first with `Reader.check`.
"""

import hashlib
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa

from lib.stage.errors import Fault, InputError
from lib.storage import tables

INDEX = pa.schema([("image_id", pa.string()), ("shard", pa.int32()), ("start", pa.int64()), ("rows", pa.int64())])


def plan(image_ids: Sequence[str], rows: Sequence[int], row_bytes: int, shard_bytes: int) -> pd.DataFrame:
    """Which rows of which shard belong to which image.

    rows        : rows of each image;  row_bytes : bytes of one row, all arrays together
    shard_bytes : size at which a shard is closed; an image is never split between two
    returns     : a frame of schema `INDEX`
    """
    shard, start = 0, 0
    records = []
    for image_id, count in zip(image_ids, rows, strict=True):
        if start and (start + count) * row_bytes > shard_bytes:
            shard, start = shard + 1, 0
        records.append((image_id, shard, start, count))
        start += count
    return pd.DataFrame(records, columns=INDEX.names).astype({"shard": "int32", "start": "int64", "rows": "int64"})


def count(regions: np.ndarray) -> tuple[int, str]:
    """The number of an image's regions, float32 (R, 4), and a digest of their corners and order."""
    corners = np.ascontiguousarray(regions, np.float32)
    return len(corners), hashlib.sha256(corners.tobytes()).hexdigest()[:16]


class Writer:
    """Fills a store in the order of its plan.

    folder : of the store;  index : from `plan`;  widths : array name -> row length;  dtype : of all arrays

    Complete shards in the folder are kept: `todo` lists the images still to write.
    """

    def __init__(self, folder: Path, index: pd.DataFrame, widths: Mapping[str, int], dtype: str = "float16") -> None:
        self.folder, self.index = folder, index
        self.widths, self.dtype = dict(widths), np.dtype(dtype)
        folder.mkdir(parents=True, exist_ok=True)
        whole = [
            shard for shard in index["shard"].unique() if all(self._path(name, shard).exists() for name in widths)
        ]
        rest = index[~index["shard"].isin(whole)]
        self.todo: list[str] = rest["image_id"].tolist()
        self._queue = deque(rest[["shard", "rows"]].itertuples(index=False, name=None))
        self._files: dict[str, BinaryIO] = {}

    def append(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The rows of the next image of `todo`: name -> (rows, width), converted to the store's dtype."""
        shard, rows = self._queue.popleft()
        if not self._files:
            self._open(shard)
        for name, file in self._files.items():
            block = np.ascontiguousarray(arrays[name], self.dtype)
            if block.shape != (rows, self.widths[name]):
                raise ValueError(f"{name}: {block.shape} rows given, {(rows, self.widths[name])} planned")
            file.write(block.data)
        if not self._queue or self._queue[0][0] != shard:
            self._finish(shard)

    def close(self) -> None:
        """Writes the index, which completes the store."""
        tables.write(self.folder / "index.parquet", self.index, INDEX)

    def _path(self, name: str, shard: int, suffix: str = ".npy") -> Path:
        return self.folder / f"{name}-{shard:05d}{suffix}"

    def _open(self, shard: int) -> None:
        total = int(self.index.loc[self.index["shard"] == shard, "rows"].sum())
        for name, width in self.widths.items():
            file = open(self._path(name, shard, ".part"), "wb")  # noqa: SIM115  closed in _finish
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": (total, width)}
            np.lib.format.write_array_header_1_0(file, header)
            self._files[name] = file

    def _finish(self, shard: int) -> None:
        for name, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(self._path(name, shard, ".part"), self._path(name, shard))
        self._files = {}


class Reader:
    """Reads a store image by image; memory is that of the rows read.

    Raises InputError where a file is missing or shorter than the index says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = tables.read(folder / "index.parquet", INDEX)
        self._ranges = {row[0]: row[1:4] for row in index.itertuples(index=False, name=None)}
        self._digests = dict(zip(index["image_id"], index["regions"], strict=True)) if "regions" in index else {}
        self._headers: dict[Path, tuple[int, int, np.dtype]] = {}
        self._mapped: dict[Path, np.ndarray] = {}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._ranges

    def rows(self, image_id: str) -> int:
        """Number of rows of an image."""
        return int(self._ranges[image_id][2])

    def check(self, image_id: str, regions: np.ndarray) -> None:
        """Raises InputError where the rows of an image are not those of these regions in this order.

        regions : float32 (R, 4)
        """
        if image_id not in self._ranges or self._digests.get(image_id) != count(regions)[1]:
            problem = f"holds other rows of {image_id} than its objects and proposals now"
            allowed = "the same objects, proposals and `difficult` in extract and after it"
            raise InputError([Fault("other regions", str(self.folder), problem, allowed, "Run: dvc repro")])

    def width(self, name: str) -> int:
        """Row length of an array."""
        return self._header(self.folder / f"{name}-00000.npy")[1]

    def read(self, name: str, image_id: str, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """float32 (rows, width): an image's rows of one array, or those of them that `rows` selects."""
        shard, start, count = self._ranges[image_id]
        path = self.folder / f"{name}-{shard:05d}.npy"
        offset, width, dtype = self._header(path)
        block = np.fromfile(path, dtype, count * width, offset=offset + start * width * dtype.itemsize)
        if block.size != count * width:
            raise self._broken(path, image_id)
        return block.reshape(count, width)[rows].astype(np.float32)

    def view(self, name: str, image_id: str) -> np.ndarray:
        """(rows, width) in the store's dtype, memory-mapped: what is not touched is not read."""
        shard, start, count = self._ranges[image_id]
        path = self.folder / f"{name}-{shard:05d}.npy"
        if path not in self._mapped:
            self._header(path)
            try:
                self._mapped[path] = np.load(path, mmap_mode="r")
            except ValueError:
                raise self._broken(path, image_id) from None
        return self._mapped[path][start : start + count]

    def _header(self, path: Path) -> tuple[int, int, np.dtype]:
        if path not in self._headers:
            try:
                with open(path, "rb") as file:
                    np.lib.format.read_magic(file)
                    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                    self._headers[path] = file.tell(), shape[1], dtype
            except (FileNotFoundError, ValueError) as error:
                raise InputError(
                    [Fault("broken store", str(path), f"cannot be read ({error})", "", "Run: dvc repro")]
                ) from None
        return self._headers[path]

    @staticmethod
    def _broken(path: Path, image_id: str) -> InputError:
        problem = f"ends before the rows of {image_id}"
        return InputError([Fault("broken store", str(path), problem, "", "Delete it and run: dvc repro")])
