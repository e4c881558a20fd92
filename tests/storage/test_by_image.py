"""Reading a table image by image: groups of any size, random order, threads, and tables that cannot be read so."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib.stage.errors import InputError
from lib.storage import tables
from lib.storage.by_image import ByImage


def proposals(*counts):
    """This many boxes of images 0.jpg, 1.jpg ..., no two of a table equal."""
    ids = [f"{image}.jpg" for image, count in enumerate(counts) for _ in range(count)]
    rows = np.arange(len(ids), dtype=np.float32)
    frame = pd.DataFrame({name: rows + side for side, name in enumerate(tables.BOX)}).assign(score=-rows)
    frame.insert(0, "image_id", pd.Series(ids, dtype=str))
    return frame


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
        ByImage(tmp_path / "t", tables.PROPOSALS)


def test_random_order_is_the_slow_way(tmp_path):
    """Every image from row groups smaller than it, as large, and of many images: what a filter of the frame gives."""
    counts = np.random.default_rng(0).integers(0, 9, 60)
    frame = proposals(*counts)
    for size in (1, 3, 16, 1000):
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "t", row_group_size=size)
        table = ByImage(tmp_path / "t", tables.PROPOSALS)
        for image in np.random.default_rng(size).permutation(60):
            name = f"{image}.jpg"
            expected = frame[frame["image_id"] == name].reset_index(drop=True)
            assert (name in table, table.count(name)) == (len(expected) > 0, len(expected))
            boxes, rows = table.boxes(name), table[name]
            assert (boxes.dtype, boxes.shape) == (np.float32, (len(expected), 4))
            np.testing.assert_array_equal(boxes, tables.boxes(expected))
            assert rows["score"].tolist() == expected["score"].tolist()
            assert rows["image_id"].tolist() == [name] * len(expected)


def test_an_image_in_two_places_is_refused_across_row_groups(tmp_path):
    with tables.Writer(tmp_path / "t", tables.PROPOSALS) as writer:
        for part in (proposals(2), proposals(0, 2), proposals(1)):
            writer.append(part)
    with pytest.raises(InputError, match="rows of 0.jpg are not contiguous"):
        ByImage(tmp_path / "t", tables.PROPOSALS)


def test_bad_values_are_named_with_their_image(tmp_path):
    frame = proposals(3, 3).astype({"x2": "float64"})
    frame.loc[4, "x2"] = np.nan
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "t")
    table = ByImage(tmp_path / "t", tables.PROPOSALS)
    assert len(table["0.jpg"]) == len(table.boxes("0.jpg")) == 3
    for read in (table.boxes, table.__getitem__):
        with pytest.raises(InputError, match=r"rows of 1.jpg, column x2, row 1"):
            read("1.jpg")
    pq.write_table(pa.table({"image_id": [1, 2]}), tmp_path / "n")
    with pytest.raises(InputError, match=r"column image_id: holds int64"):
        ByImage(tmp_path / "n", pa.schema([("image_id", pa.string())]))


def test_only_a_few_groups_stay_in_memory_and_one_file_is_open(tmp_path):
    with tables.Writer(tmp_path / "t", tables.PROPOSALS) as writer:
        for image in range(40):
            writer.append(proposals(*[0] * image, 2))
    before = psutil.Process().num_fds()
    table = ByImage(tmp_path / "t", tables.PROPOSALS)
    for image in range(40):
        table.boxes(f"{image}.jpg")
    assert len(table._cache) == table.cached_groups
    assert psutil.Process().num_fds() == before + 1
    del table
    assert psutil.Process().num_fds() == before


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
