import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lib.stage.errors import InputError
from lib.storage import tables
from lib.storage.by_image import ByImage


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


def test_by_image_streams_row_groups(tmp_path):
    with tables.Writer(tmp_path / "t", tables.PROPOSALS) as writer:
        for part in (proposals(3, 2).iloc[:5], proposals(0, 0, 4, 1)):
            writer.append(part)
    assert pq.ParquetFile(tmp_path / "t").num_row_groups == 2
    table = ByImage(tmp_path / "t", tables.PROPOSALS)
    assert [len(table[f"{i}.jpg"]) for i in range(5)] == [3, 2, 4, 1, 0]
    assert table["2.jpg"]["x1"].tolist() == [0, 1, 2, 3]
    table.require(["0.jpg", "3.jpg"], "Rerun")
    with pytest.raises(InputError, match=r"no rows for 9.jpg \(1 of 2 images.*holds 4 images\). Allowed.*Rerun"):
        table.require(["0.jpg", "9.jpg"], "Rerun")


def test_scattered_rows_are_refused(tmp_path):
    frame = proposals(2, 2).iloc[[0, 2, 1, 3]]
    tables.write(tmp_path / "t", frame, tables.PROPOSALS)
    with pytest.raises(InputError, match="are not contiguous"):
        ByImage(tmp_path / "t", tables.PROPOSALS)["0.jpg"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        tables.write_json(tmp_path / "m.json", {"map": float("nan")})
    tables.write_json(tmp_path / "m.json", {"map": None})
    assert tables.read_json(tmp_path / "m.json") == {"map": None}


def test_threads_may_share_a_table(tmp_path):
    counts = [300, 100, 400, 100, 500, 900, 200, 600] * 8
    frame = proposals(*counts)
    with tables.Writer(tmp_path / "t", tables.PROPOSALS) as writer:
        for image in range(len(counts)):
            writer.append(frame[frame["image_id"] == f"{image}.jpg"])
    table = ByImage(tmp_path / "t", tables.PROPOSALS)
    wanted = np.random.default_rng(0).integers(len(counts), size=2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        lengths = list(pool.map(lambda image: len(table[f"{image}.jpg"]), wanted))
    assert lengths == [counts[image] for image in wanted]
