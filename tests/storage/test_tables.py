import hashlib
import os

import numpy as np
import pandas as pd
import pyarrow as pa
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


INDEXED = {
    "an index by its name": lambda frame: frame.set_index("image_id"),
    "two levels": lambda frame: frame.set_index(["image_id", "score"]),
    "the index and a column of one name": lambda frame: frame.set_index("image_id", drop=False),
    "rows in another order": lambda frame: frame.iloc[::-1].sort_index(),
    "an index without a name": lambda frame: frame.set_axis(list("abcde")),
    "an index of another name": lambda frame: frame.set_axis(pd.RangeIndex(10, 15, name="row")),
    "categories": lambda frame: frame.astype({"image_id": "category"}).set_index("image_id"),
}


@pytest.mark.parametrize("change", INDEXED)
def test_case_109_a_table_written_by_pandas_is_read_by_column(tmp_path, change):
    frame = proposals(3, 2)
    INDEXED[change](frame).to_parquet(tmp_path / "t")
    expected = tables.to_arrow(frame, tables.PROPOSALS, "").to_pandas()
    pd.testing.assert_frame_equal(tables.read(tmp_path / "t", tables.PROPOSALS)[tables.PROPOSALS.names], expected)
    table = ByImage(tmp_path / "t", tables.PROPOSALS)
    for image_id in ("0.jpg", "1.jpg"):
        rows = expected[expected["image_id"] == image_id].reset_index(drop=True)
        pd.testing.assert_frame_equal(table[image_id][tables.PROPOSALS.names], rows)


def test_case_109_an_index_of_numbers_that_pandas_stores_as_three_numbers(tmp_path):
    """A RangeIndex has no column in the file: only what pandas says about the file knows it."""
    frame = pd.DataFrame({"name": ["a", "b"]}, index=pd.RangeIndex(4, 8, 2, name="object"))
    frame.to_parquet(tmp_path / "t")
    assert "object" not in pq.read_schema(tmp_path / "t").names
    schema = pa.schema([("object", pa.int32()), ("name", pa.string())])
    assert tables.read(tmp_path / "t", schema)["object"].tolist() == [4, 6]


READ = {
    "string": pa.array(["p", "q"]), "large_string": pa.array(["p", "q"], pa.large_string()),
    "string_view": pa.array(["p", "q"], pa.string_view()), "categories": pa.array(["p", "q"]).dictionary_encode(),
    "float16": pa.array(np.float16([0.5, 1])), "double": pa.array([0.5, 1.0]), "int64": pa.array([3, 4]),
    "uint8": pa.array([1, 0], pa.uint8()), "decimal": pa.array([1, 2], pa.decimal128(5, 2)),
    "numbers as categories": pa.array([0.5, 1.0]).dictionary_encode(), "bool": pa.array([True, False]),
    "timestamp": pa.array([1, 2], pa.timestamp("us")), "binary": pa.array([b"p", b"q"]), "list": pa.array([[1.0], []]),
    "nulls": pa.nulls(2), "wide": pa.array([2**40, 1]), "huge": pa.array([1e300, 1.0]),
    "null": pa.array([1.0, None]), "negative": pa.array([-1, 0]),
    "NaN": pa.array([np.nan, 1.0]), "halves": pa.array([0.5, 1.5]),
}
TEXT, NUMBER, TRUTH = {"string", "large_string", "string_view", "categories"}, {
    "float16", "double", "int64", "uint8", "decimal", "numbers as categories", "halves", "negative"}, {"bool", "uint8"}
WHOLE = {"int64", "uint8", "decimal", "negative"}
BAD_VALUES = {"string": {"nulls"}, "float": {"nulls", "null", "NaN", "huge"}, "bool": {"nulls", "null", "NaN"},
              "int32": {"nulls", "null", "NaN"}}
HELD = {"wide": "int64", "negative": "int64", "float16": "halffloat", "huge": "double", "halves": "double",
        "null": "double", "NaN": "double",
        "numbers as categories": "double", **dict.fromkeys(TEXT, "")}  # text has more than one type


@pytest.mark.parametrize(("kind", "allowed"), [("string", TEXT), ("float", NUMBER), ("bool", TRUTH), ("int32", WHOLE)])
@pytest.mark.parametrize("held", READ)
def test_a_column_of_another_type_is_read_as_it_is_meant_or_named(tmp_path, kind, allowed, held):
    schema = pa.schema([("column", pa.type_for_alias(kind))])
    pq.write_table(pa.table({"extra": READ["list"], "column": READ[held]}), tmp_path / "t")
    if held in allowed:
        values = tables.read(tmp_path / "t", schema)["column"].tolist()
        assert values == [type(values[0])(value) for value in READ[held].to_pylist()]
        return
    with pytest.raises(InputError, match=f"{tmp_path}/t, column column") as error:
        tables.read(tmp_path / "t", schema)
    assert f" Allowed: {'finite numbers' if held in BAD_VALUES[kind] else kind}" in str(error.value)
    assert ("row " if held in BAD_VALUES[kind] else f"holds {HELD.get(held, held)}") in str(error.value)


def test_two_columns_of_one_name(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["image_id", "image_id"]), tmp_path / "t")
    with pytest.raises(InputError, match="there are 2 columns image_id"):
        tables.read(tmp_path / "t", pa.schema([("image_id", pa.string())]))


def test_a_file_whose_pages_are_broken(tmp_path):
    path = tmp_path / "t.parquet"
    tables.write(path, proposals(300), tables.PROPOSALS)
    data = bytearray(path.read_bytes())
    data[4:600] = b"\0" * 596
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a whole Parquet file"):
        tables.read(path, tables.PROPOSALS)


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


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf[]", b'["cat", "do', b"", b'["Caf\xe9"]', b"\xff\xfe[\0]\0"])
def test_case_112_json_with_a_byte_order_mark_cut_off_or_in_another_encoding(tmp_path, content):
    (tmp_path / "classes.json").write_bytes(content)
    for read in (tables.read_json, tables.read_names):
        with pytest.raises(InputError, match=r"classes.json: is not a whole JSON .*\. Allowed: .*\. Delete it and run"):
            read(tmp_path / "classes.json")


def test_case_112_json_that_is_missing_or_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"gone.json: the file is not there.*Allowed: .*check the path"):
        tables.read_json(tmp_path / "gone.json")
    with pytest.raises(InputError, match="Is a directory"):
        tables.read_json(tmp_path)


@pytest.mark.parametrize("names", [{"cat": 1}, "cat", None, ["cat", 1], [["cat"]]])
def test_case_112_what_is_no_list_of_names(tmp_path, names):
    tables.write_json(tmp_path / "classes.json", names)
    with pytest.raises(InputError, match=r"classes.json: holds .*Allowed: the list of the names"):
        tables.read_names(tmp_path / "classes.json")
    tables.write_json(tmp_path / "classes.json", ["cat", "dog"])
    assert tables.read_names(tmp_path / "classes.json") == ["cat", "dog"]
