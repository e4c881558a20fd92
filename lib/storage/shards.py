"""Large arrays by image in a few large files: written image by image, resumed shard by shard.

A store is a folder: `index.parquet` (image_id, shard, rows of the image, digest of its regions, and for each array
which rows it stores) and, for each array and shard, one `NAME-00000.npy` of fixed row length: the stored rows of its
images in half precision, one after the other. The rows of a store of features are regions: who reads them by the number
of a region verifies regions and order first with `Reader.check`.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lib.stage.errors import Fault, InputError
from lib.storage import tables

INDEX = pa.schema(
    [("image_id", pa.string()), ("shard", pa.int32()), ("rows", pa.int64()), ("regions", pa.string())]
)  # and a binary column for each array: a bit for each row, padded with zeros


DTYPE = np.dtype(np.float16)


class Rows(NamedTuple):
    """What is stored of an image of R rows.

    stored : array name -> bool (R,), which rows of it;  regions : their digest, "" where rows are no regions
    """

    stored: Mapping[str, NDArray[np.bool_]]
    regions: str = ""


def digest(regions: np.ndarray) -> str:
    """A digest of the corners and the order of an image's regions, float32 (R, 4)."""
    return hashlib.sha256(np.ascontiguousarray(regions, np.float32).tobytes()).hexdigest()[:16]


def plan(
    image_ids: Sequence[str], rows: Iterable[Rows], widths: Mapping[str, int], shard_bytes: int
) -> pd.DataFrame:
    """Which rows of each array are stored, and in which shard; the index of a store.

    rows        : of each image;  widths : array name -> row length
    shard_bytes : size at which a shard is closed, all its arrays together; an image is never split between two
    returns     : a frame of schema `INDEX` and a column for each array
    """
    shard, filled = 0, 0
    records = []
    for image_id, image_rows in zip(image_ids, rows, strict=True):
        size = sum(int(image_rows.stored[name].sum()) * DTYPE.itemsize * width for name, width in widths.items())
        if filled and filled + size > shard_bytes:
            shard, filled = shard + 1, 0
        filled += size
        bits = [np.packbits(image_rows.stored[name]).tobytes() for name in widths]
        count = len(next(iter(image_rows.stored.values())))
        records.append((image_id, shard, count, image_rows.regions, *bits))
    frame = pd.DataFrame(records, columns=[*INDEX.names, *widths])
    return frame.astype({"shard": "int32", "rows": "int64"})


def size(index: pd.DataFrame, widths: Mapping[str, int]) -> dict[str, int]:
    """Array name -> bytes on disk of a planned store."""
    return {name: int(_counts(index[name]).sum()) * DTYPE.itemsize * width for name, width in widths.items()}


def _counts(bits: Iterable[bytes]) -> NDArray[np.int64]:
    """Stored rows of each image."""
    return np.array([int.from_bytes(image_bits, "big").bit_count() for image_bits in bits], np.int64)


def _mask(bits: bytes, rows: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=rows).astype(bool)


class Writer:
    """Fills a store in the order of its plan.

    folder : of the store;  index : from `plan`;  widths : array name -> row length

    Complete shards in the folder are kept: `todo` lists the images still to write.
    """

    def __init__(self, folder: Path, index: pd.DataFrame, widths: Mapping[str, int]) -> None:
        self.folder, self.index = folder, index
        self.widths = dict(widths)
        folder.mkdir(parents=True, exist_ok=True)
        whole = [
            shard for shard in index["shard"].unique() if all(self._path(name, shard).exists() for name in widths)
        ]
        rest = index[~index["shard"].isin(whole)]
        self.todo: list[str] = rest["image_id"].tolist()
        self._queue = deque(rest[["shard", "rows", *widths]].itertuples(index=False, name=None))
        self._files: dict[str, BinaryIO] = {}

    def append(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The next image of `todo`: name -> (rows, width), of which those planned are stored."""
        shard, rows, *bits = self._queue.popleft()
        if not self._files:
            self._open(shard)
        for (name, file), image_bits in zip(self._files.items(), bits, strict=True):
            if arrays[name].shape != (rows, self.widths[name]):
                raise ValueError(f"{name}: {arrays[name].shape} rows given, {(rows, self.widths[name])} planned")
            file.write(np.ascontiguousarray(arrays[name][_mask(image_bits, rows)], DTYPE).data)
        if not self._queue or self._queue[0][0] != shard:
            self._finish(shard)

    def close(self) -> None:
        """Writes the index, which completes the store."""
        tables.write(self.folder / "index.parquet", self.index, INDEX)

    def _path(self, name: str, shard: int, suffix: str = ".npy") -> Path:
        return self.folder / f"{name}-{shard:05d}{suffix}"

    def _open(self, shard: int) -> None:
        images = self.index[self.index["shard"] == shard]
        for name, width in self.widths.items():
            file = open(self._path(name, shard, ".part"), "wb")  # noqa: SIM115  closed in _finish
            total = int(_counts(images[name]).sum())
            header = {"descr": DTYPE.str, "fortran_order": False, "shape": (total, width)}
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
    """Reads a store image by image; memory is that of the rows read. No file stays open. Threads may share one.

    Raises InputError where a file is missing or shorter than the index says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = tables.read(folder / "index.parquet", INDEX)
        self._images = {row[0]: row[1:4] for row in index[INDEX.names].itertuples(index=False, name=None)}
        self._stored: dict[str, dict[str, tuple[int, bytes]]] = {}  # array -> image -> first row in its shard, bits
        for name in index.columns.difference(INDEX.names):
            counts = pd.Series(_counts(index[name]))
            starts = counts.groupby(index["shard"]).cumsum() - counts
            spans = zip(starts.tolist(), index[name], strict=True)
            self._stored[name] = dict(zip(index["image_id"], spans, strict=True))
        self._headers: dict[Path, tuple[int, int]] = {}
        self._mapped: dict[Path, np.ndarray] = {}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._images

    def rows(self, image_id: str) -> int:
        """Number of rows of an image, stored or not."""
        return int(self._images[image_id][1])

    def check(self, image_id: str, regions: np.ndarray) -> None:
        """Raises InputError where the rows of an image are not those of these regions in this order.

        regions : float32 (R, 4)
        """
        if image_id not in self._images or self._images[image_id][2] != digest(regions):
            problem = f"holds other rows of {image_id} than its objects and proposals now"
            allowed = "the same objects, proposals and `difficult` in extract and after it"
            raise InputError([Fault("other regions", str(self.folder), problem, allowed, "Run: dvc repro")])

    def width(self, name: str) -> int:
        """Row length of an array. Raises InputError where the store has no such array."""
        if name not in self._stored:
            problem = f"holds no {name}"
            raise InputError(
                [Fault("layer not stored", str(self.folder), problem, ", ".join(self._stored), "Run: dvc repro")]
            )
        return self._header(self.folder / f"{name}-00000.npy")[1]

    def read(self, name: str, image_id: str, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """float32 (n, width): the rows of an image with these numbers. Raises InputError where one is not stored."""
        mask, wanted = self._mask(name, image_id), np.arange(self.rows(image_id))[rows]
        if not mask[wanted].all():
            problem = f"holds {name} of {mask.sum()} of the {len(mask)} regions of {image_id}, others are to be read"
            allowed = "the regions that extract stored, as the settings of the SVMs and the regressors were then"
            raise InputError([Fault("rows not stored", str(self.folder), problem, allowed, "Run: dvc repro")])
        path, start = self._place(name, image_id)
        offset, width = self._header(path)
        block = np.fromfile(path, DTYPE, mask.sum() * width, offset=offset + start * width * DTYPE.itemsize)
        if block.size != mask.sum() * width:
            raise self._broken(path, image_id)
        return block.reshape(-1, width)[(np.cumsum(mask) - 1)[wanted]].astype(np.float32)

    def view(self, name: str, image_id: str) -> np.ndarray:
        """float16 (n, width): all stored rows, memory-mapped: what is not touched is not read."""
        path, start = self._place(name, image_id)
        offset, width = self._header(path)
        count = int(self._mask(name, image_id).sum())
        if path not in self._mapped:
            halves = os.path.getsize(path) // DTYPE.itemsize
            # A mapping of NumPy's keeps its file open, and a store may have thousands; this one does not.
            mapped = torch.from_file(str(path), shared=False, size=halves, dtype=torch.half).numpy()
            self._mapped[path] = mapped[offset // DTYPE.itemsize :]
        values = self._mapped[path][start * width : (start + count) * width]
        if values.size != count * width:
            raise self._broken(path, image_id)
        return values.reshape(count, width)

    def _mask(self, name: str, image_id: str) -> NDArray[np.bool_]:
        self.width(name)
        return _mask(self._stored[name][image_id][1], self.rows(image_id))

    def _place(self, name: str, image_id: str) -> tuple[Path, int]:
        """The file of an image's rows of an array, and the first of them in it."""
        return self.folder / f"{name}-{self._images[image_id][0]:05d}.npy", self._stored[name][image_id][0]

    def _header(self, path: Path) -> tuple[int, int]:
        """Bytes before the first row, and the row length."""
        if path not in self._headers:
            try:
                with open(path, "rb") as file:
                    np.lib.format.read_magic(file)
                    (_, width), _, dtype = np.lib.format.read_array_header_1_0(file)
                    if dtype != DTYPE:
                        raise ValueError(f"holds {dtype}")
                    self._headers[path] = file.tell(), width
            except (FileNotFoundError, ValueError) as error:
                raise InputError(
                    [Fault("broken store", str(path), f"cannot be read ({error})", "", "Run: dvc repro")]
                ) from None
        return self._headers[path]

    @staticmethod
    def _broken(path: Path, image_id: str) -> InputError:
        problem = f"ends before the rows of {image_id}"
        return InputError([Fault("broken store", str(path), problem, "", "Delete it and run: dvc repro")])
