"""The tables between stages: their schemas, validated reading and writing, always whole files by rename.

Flat Parquet columns, boxes as four float32 columns, every row keyed by ``image_id``. The rows of one image are
contiguous, so that a consumer can stream a table of any length image by image (`by_image.ByImage`).
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.stage.errors import Fault, InputError

GROUP_ROWS = 2**14  # most rows of a row group: it is decoded as a whole, even for a single image
BOX = ["x1", "y1", "x2", "y2"]
_PARQUET = "table", "a whole Parquet file"
_box = [(name, pa.float32()) for name in BOX]

IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("transpose", pa.bool_()),
        ("content", pa.string()),
    ]
)
OBJECTS = pa.schema(
    [
        ("image_id", pa.string()),
        ("object", pa.int32()),
        ("class", pa.string()),
        *_box,
        ("difficult", pa.bool_()),
        ("truncated", pa.bool_()),
        ("crowd", pa.bool_()),
    ]
)
PROPOSALS = pa.schema([("image_id", pa.string()), *_box, ("score", pa.float32())])
DETECTIONS = pa.schema([("image_id", pa.string()), ("class", pa.string()), *_box, ("score", pa.float32())])


def write_atomic(path: Path | str, write: Callable[[BinaryIO], Any]) -> None:
    """Lets `write` fill a temporary sibling, then renames it to `path`: the file is whole or not there.

    Never writes in place, so a hard-linked DVC cache stays intact.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_json(path: Path | str, value: Any) -> None:
    """Indented JSON, keys in the order of the dict; NaN and infinity are refused (write None)."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def write_text(path: Path | str, text: str) -> None:
    """UTF-8 text, whole or not at all."""
    write_atomic(path, lambda file: file.write(text.encode()))


def read_json(path: Path | str) -> Any:
    """What `write_json` wrote. Raises InputError where the file is missing or not whole."""
    with _broken(path, "file", "a whole JSON file in UTF-8, without a byte-order mark"):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def read_names(path: Path | str) -> list[str]:
    """The classes of a data set, as `prepare` writes them. Raises InputError where the file is anything else."""
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        allowed, remedy = "the list of the names of the classes that prepare writes", 'Write it as ["cat", "dog"]'
        raise InputError([Fault("broken file", str(path), f"holds {names!r:.60}", allowed, remedy)])
    return names


def to_arrow(frame: pd.DataFrame | pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """The frame as an Arrow table of exactly this schema; extra columns follow it.

    Raises InputError for a missing or repeated column, a value that does not fit (text where a number is due, a number
    where text is due: ids of classes are not their names), a missing or non-finite number.
    """
    present = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    faults = [
        Fault("missing column", where, f"there is no column {name}", f"columns {schema.names}",
              "Add the column, or name another table")
        for name in schema.names
        if name not in present
    ] + [
        Fault("repeated column", where, f"there are {present.count(name)} columns {name}", "one column of each name",
              "Remove or rename the others")
        for name in dict.fromkeys(present)
        if present.count(name) > 1
    ]
    if faults:
        raise InputError(faults)
    columns, names = [], [*schema.names, *(name for name in present if name not in schema.names)]
    for name in names:
        kind = schema.field(name).type if name in schema.names else None
        try:
            column = frame[name] if isinstance(frame, pa.Table) else pa.array(frame[name], from_pandas=True)
            column = column if kind is None else _cast(column, kind)
        except (pa.ArrowException, OverflowError) as error:
            faults.append(Fault("wrong type", f"{where}, column {name}", str(error), str(kind), "Convert it"))
            continue
        if kind is not None and (bad := _bad_rows(column)).size:
            faults.append(
                Fault("bad value", f"{where}, column {name}, row {bad[0]}",
                      f"{column[int(bad[0])].as_py()!r} ({bad.size} such rows)",
                      "finite numbers and text, none missing", "Drop or fix these rows")
            )
        columns.append(column)
    if faults:
        raise InputError(faults)
    return pa.table(dict(zip(names, columns, strict=True)))


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Arrow alone would make text of numbers and dates, numbers of text, and a truth of any number."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    held, wanted = _family(column.type), _family(kind)
    if held != wanted and (held, wanted) != ("number", "truth") and column.null_count < len(column):
        raise pa.ArrowTypeError(f"holds {column.type}")
    try:
        if wanted == "truth" and not set(pc.unique(column.cast(pa.int64())).to_pylist()) <= {0, 1, None}:
            raise pa.ArrowInvalid("numbers besides 0 and 1")
        return column.cast(kind)
    except pa.ArrowException as error:
        raise pa.ArrowTypeError(f"holds {column.type} ({error})") from None


def _family(kind: pa.DataType) -> str:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "truth" if pa.types.is_boolean(kind) else str(kind)


def _bad_rows(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    bad = pc.is_null(column)
    if pa.types.is_floating(column.type):
        bad = pc.or_(bad, pc.fill_null(pc.invert(pc.is_finite(column)), True))
    return np.flatnonzero(bad.to_numpy(zero_copy_only=False)) if pc.any(bad).as_py() else np.zeros(0, np.int64)


def write(path: Path | str, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """Writes a whole table; equal frames give equal bytes."""
    table = to_arrow(frame, schema, str(path))
    write_atomic(path, lambda file: pq.write_table(table, file, row_group_size=GROUP_ROWS))


class Writer:
    """Writes a table in chunks, each in row groups of its own, into a scratch file (the caller publishes it)."""

    def __init__(self, path: Path | str, schema: pa.Schema) -> None:
        self.path, self.schema = Path(path), schema
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer: pq.ParquetWriter | None = None

    def append(self, frame: pd.DataFrame) -> None:
        """Adds rows, none of them to an earlier row group; a frame without rows still fixes the columns."""
        table = to_arrow(frame, self.schema, str(self.path))
        if self._writer is None:
            self._writer = pq.ParquetWriter(str(self.path), table.schema)
        if table.num_rows or not self._writer.is_open:
            self._writer.write_table(table, GROUP_ROWS)

    def close(self) -> None:
        """Writes the footer; without it the file is unreadable, and so never mistaken for a whole one."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(str(self.path), self.schema)
        self._writer.close()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_parquet(path: Path | str) -> pq.ParquetFile:
    """The file; InputError where it is missing or not whole."""
    with _broken(path, *_PARQUET):
        return pq.ParquetFile(str(path))


def read(path: Path | str, schema: pa.Schema) -> pd.DataFrame:
    """A whole table as a frame, checked against its schema. Raises InputError.

    An index with names that pandas has stored, for example by `set_index("image_id")`, counts as columns.
    """
    with _broken(path, *_PARQUET):
        frame = pq.ParquetFile(str(path)).read().to_pandas()
    named = [name for name in frame.index.names if name in schema.names and name not in frame.columns]
    frame = frame.reset_index(level=named) if named else frame
    return to_arrow(frame, schema, str(path)).to_pandas()


@contextmanager
def _broken(path: Path | str, kind: str, allowed: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        remedy = "Run: dvc repro; or, if it is a file of yours, check the path"
        raise InputError([Fault(f"missing {kind}", str(path), "the file is not there", allowed, remedy)]) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        remedy = "Delete it and run: dvc repro; or, if it is a file of yours, write it again"
        raise InputError([Fault(f"broken {kind}", str(path), f"is not {allowed} ({error})", allowed, remedy)]) from None


def boxes(frame: pd.DataFrame) -> np.ndarray:
    """float32 (R, 4): the box columns of a frame."""
    return frame[BOX].to_numpy(np.float32)


def groups(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A small table (objects) split by image: image_id -> its rows, in their order."""
    return {str(key): rows.reset_index(drop=True) for key, rows in frame.groupby("image_id", sort=False)}


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive pieces of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
