import hashlib
import os

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lib.stage.errors import InputError
from lib.storage import tables


def proposals(*counts):
    rows = []
    for image, count in enumerate(counts):
        rows += [(f"{image}.jpg", i, i, i + 1, i + 2, -i) for i in range(count)]
    return pd.DataFrame(rows, columns=tables.PROPOSALS.names)


def test_equal_tables_write_equal_bytes_and_read_back(tmp_path):
    for name in "ab":
        tables.write(tmp_path / name, proposals(3, 2), tables.PROPOSALS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    frame = tables.read(tmp_path / "a", tables.PROPOSALS)
    assert tables.boxes(frame).dtype == np.float32
    assert tables.boxes(frame)[1].tolist() == [1, 1, 2, 3]


def test_empty_table_keeps_its_columns(tmp_path):
    tables.write(tmp_path / "t", proposals(), tables.PROPOSALS)
    assert tables.boxes(tables.read(tmp_path / "t", tables.PROPOSALS)).shape == (0, 4)


@pytest.mark.parametrize("cut", [10, None])
def test_half_written_file(tmp_path, cut):
    path = tmp_path / "t.parquet"
    tables.write(path, proposals(3), tables.PROPOSALS)
    path.write_bytes(path.read_bytes()[:-cut] if cut else b"")
    with pytest.raises(InputError, match="not a whole Parquet file.*Delete it"):
        tables.read(path, tables.PROPOSALS)


def test_missing_file_column_and_bad_value(tmp_path):
    with pytest.raises(InputError, match="not there"):
        tables.read(tmp_path / "none", tables.PROPOSALS)
    with pytest.raises(InputError, match="no column score"):
        tables.write(tmp_path / "t", proposals(2).drop(columns="score"), tables.PROPOSALS)
    frame = proposals(3).astype({"score": float})
    frame.loc[1, "score"] = np.nan
    with pytest.raises(InputError, match="column score, row 1"):
        tables.write(tmp_path / "t", frame, tables.PROPOSALS)
    with pytest.raises(InputError, match="column x1"):
        tables.write(tmp_path / "t", proposals(1).astype({"x1": str}), tables.PROPOSALS)
    assert not (tmp_path / "t").exists()


def test_a_hard_linked_copy_is_never_written_through(tmp_path):
    tables.write(tmp_path / "t", proposals(3), tables.PROPOSALS)
    os.link(tmp_path / "t", tmp_path / "cache")
    before = hashlib.md5((tmp_path / "cache").read_bytes()).hexdigest()
    tables.write(tmp_path / "t", proposals(4), tables.PROPOSALS)
    assert hashlib.md5((tmp_path / "cache").read_bytes()).hexdigest() == before


def test_write_that_fails_leaves_nothing(tmp_path):
    def half(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        tables.write_atomic(tmp_path / "t", half)
    assert list(tmp_path.iterdir()) == []


def test_row_groups_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "GROUP_ROWS", 4)
    tables.write(tmp_path / "w", proposals(3, 7), tables.PROPOSALS)
    with tables.Writer(tmp_path / "a", tables.PROPOSALS) as writer:
        for part in (proposals(3), proposals(0, 7)):
            writer.append(part)
    sizes = {"w": [4, 4, 2], "a": [3, 4, 3]}
    for name, expected in sizes.items():
        metadata = pq.ParquetFile(tmp_path / name).metadata
        assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == expected
        assert tables.read(tmp_path / name, tables.PROPOSALS).equals(tables.read(tmp_path / "w", tables.PROPOSALS))


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        tables.write_json(tmp_path / "m.json", {"map": float("nan")})
    tables.write_json(tmp_path / "m.json", {"map": None})
    assert tables.read_json(tmp_path / "m.json") == {"map": None}
