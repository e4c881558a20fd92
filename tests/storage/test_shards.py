import numpy as np
import pytest

from lib.stage.errors import InputError
from lib.storage import shards

IDS, ROWS = ["a", "b", "c", "d"], [3, 0, 4, 2]
WIDTHS = {"pool5": 5, "fc7": 2}


def arrays(seed, rows):
    random = np.random.default_rng(seed)
    return {name: random.random((rows, width)).astype(np.float32) for name, width in WIDTHS.items()}


def fill(folder, stop=None):
    index = shards.plan(IDS, ROWS, row_bytes=14, shard_bytes=14 * 4)
    writer = shards.Writer(folder, index, WIDTHS)
    for image_id in writer.todo[:stop]:
        position = IDS.index(image_id)
        writer.append(arrays(position, ROWS[position]))
    if stop is None:
        writer.close()
    return index


def test_plan_never_splits_an_image():
    index = shards.plan(IDS, ROWS, 14, 14 * 4)
    assert index["shard"].tolist() == [0, 0, 1, 2]
    assert index["start"].tolist() == [0, 3, 0, 0]


def test_round_trip(tmp_path):
    fill(tmp_path)
    store = shards.Reader(tmp_path)
    for position, image_id in enumerate(IDS):
        for name, expected in arrays(position, ROWS[position]).items():
            np.testing.assert_array_equal(store.read(name, image_id), expected.astype(np.float16))
    np.testing.assert_array_equal(store.read("fc7", "c", np.array([2])), arrays(2, 4)["fc7"][[2]].astype(np.float16))
    assert (store.width("pool5"), store.rows("c"), "x" in store) == (5, 4, False)
    assert np.load(tmp_path / "fc7-00001.npy").shape == (4, 2)


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_interrupted_and_resumed_is_the_same_bytes(tmp_path, stop):
    fill(tmp_path / "whole")
    fill(tmp_path / "cut", stop)
    fill(tmp_path / "cut")
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes()


def test_wrong_number_of_rows(tmp_path):
    writer = shards.Writer(tmp_path, shards.plan(IDS, ROWS, 14, 10**6), WIDTHS)
    with pytest.raises(ValueError, match="planned"):
        writer.append(arrays(0, 2))


def test_short_shard(tmp_path):
    fill(tmp_path)
    path = tmp_path / "fc7-00001.npy"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="ends before the rows of c"):
        shards.Reader(tmp_path).read("fc7", "c")


def test_views_are_mapped_and_equal_what_is_read(tmp_path):
    fill(tmp_path)
    store = shards.Reader(tmp_path)
    for image_id in IDS:
        view = store.view("fc7", image_id)
        assert view.dtype == np.float16
        assert isinstance(view, np.memmap) == (store.rows(image_id) > 0)
        np.testing.assert_array_equal(view, store.read("fc7", image_id))


def test_view_of_a_short_shard(tmp_path):
    fill(tmp_path)
    path = tmp_path / "fc7-00001.npy"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="ends before the rows of c"):
        shards.Reader(tmp_path).view("fc7", "c")
