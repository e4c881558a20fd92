import numpy as np
import psutil
import pytest

from lib.stage.errors import InputError
from lib.storage import shards

IDS = ["a", "b", "c", "d"]
MASKS = {"pool5": ["101", "", "0100", "00"], "fc7": ["111", "", "1111", "11"]}
ROWS = [len(mask) for mask in MASKS["fc7"]]
WIDTHS = {"pool5": 5, "fc7": 2}


def stored(position):
    return {name: np.array([bit == "1" for bit in masks[position]], bool) for name, masks in MASKS.items()}


def arrays(position):
    """All rows of an image, those that are not stored too, and an array that is not stored at all."""
    random = np.random.default_rng(position)
    rows = {name: random.random((ROWS[position], width)).astype(np.float32) for name, width in WIDTHS.items()}
    return {**rows, "probabilities": np.zeros((ROWS[position], 3))}


def plan(shard_bytes=40):
    rows = (shards.Rows(stored(position), shards.digest(np.full((4, 4), position))) for position in range(4))
    return shards.plan(IDS, rows, WIDTHS, shard_bytes)


def fill(folder, stop=None):
    writer = shards.Writer(folder, plan(), WIDTHS)
    for image_id in writer.todo[:stop]:
        writer.append(arrays(IDS.index(image_id)))
    if stop is None:
        writer.close()


def test_plan_counts_what_is_stored_and_never_splits_an_image():
    """2 rows of 5 and 3 of 2 halves are 32 bytes; 1 and 4 are 26; 0 and 2 are 8."""
    index = plan()
    assert index["shard"].tolist() == [0, 0, 1, 1]
    assert plan(32)["shard"].tolist() == [0, 0, 1, 2]
    assert index["rows"].tolist() == ROWS
    assert shards.size(index, WIDTHS) == {"pool5": 2 * 5 * 3, "fc7": 2 * 2 * 9}


def test_round_trip(tmp_path):
    fill(tmp_path)
    store = shards.Reader(tmp_path)
    for position, image_id in enumerate(IDS):
        for name, mask in stored(position).items():
            expected = arrays(position)[name].astype(np.float16)
            kept = np.flatnonzero(mask)
            read = store.read(name, image_id, kept)
            assert read.dtype == np.float32
            np.testing.assert_array_equal(read, expected[kept])
            np.testing.assert_array_equal(store.read(name, image_id, kept[::-1]), expected[kept[::-1]])
            np.testing.assert_array_equal(store.view(name, image_id), expected[kept])
        np.testing.assert_array_equal(store.read("fc7", image_id), arrays(position)["fc7"].astype(np.float16))
    np.testing.assert_array_equal(store.read("fc7", "c", slice(1, 3)), arrays(2)["fc7"][1:3].astype(np.float16))
    assert (store.width("pool5"), store.rows("c"), "x" in store) == (5, 4, False)
    assert np.load(tmp_path / "fc7-00001.npy").shape == (6, 2)
    assert np.load(tmp_path / "pool5-00001.npy").shape == (1, 5)
    sizes = {name: sum(len(np.load(path)) for path in tmp_path.glob(f"{name}-*.npy")) * 2 for name in WIDTHS}
    assert {name: size * WIDTHS[name] for name, size in sizes.items()} == shards.size(plan(), WIDTHS)


def test_rows_and_layers_that_are_not_stored_are_named(tmp_path):
    fill(tmp_path)
    store = shards.Reader(tmp_path)
    with pytest.raises(InputError, match=r"holds pool5 of 1 of the 4 regions of c, others are to be read.*dvc repro"):
        store.read("pool5", "c", np.array([1, 2]))
    with pytest.raises(InputError, match="holds pool5 of 2 of the 3 regions of a"):
        store.read("pool5", "a")
    for read in (store.width, lambda name: store.read(name, "a")):
        with pytest.raises(InputError, match=r"holds no fc6. Allowed: fc7, pool5"):
            read("fc6")


def test_regions_are_checked(tmp_path):
    fill(tmp_path)
    store = shards.Reader(tmp_path)
    store.check("c", np.full((4, 4), 2))
    for image_id, value in (("c", 1), ("x", 2)):
        with pytest.raises(InputError, match="holds other rows of"):
            store.check(image_id, np.full((4, 4), value))


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_interrupted_and_resumed_is_the_same_bytes(tmp_path, stop):
    fill(tmp_path / "whole")
    fill(tmp_path / "cut", stop)
    fill(tmp_path / "cut")
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes()


def test_wrong_number_of_rows(tmp_path):
    writer = shards.Writer(tmp_path, plan(), WIDTHS)
    with pytest.raises(ValueError, match="planned"):
        writer.append({name: rows[:2] for name, rows in arrays(0).items()})


@pytest.mark.parametrize("read", ["read", "view"])
def test_short_shard(tmp_path, read):
    fill(tmp_path)
    path = tmp_path / "fc7-00001.npy"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="ends before the rows of d"):
        getattr(shards.Reader(tmp_path), read)("fc7", "d")


def test_an_array_of_another_type_is_refused(tmp_path):
    fill(tmp_path)
    np.save(tmp_path / "fc7-00000.npy", np.zeros((3, 2)))
    with pytest.raises(InputError, match="cannot be read .holds float64"):
        shards.Reader(tmp_path).read("fc7", "a")


def test_no_file_stays_open(tmp_path):
    """A store of feature maps has thousands of shards, and a training reads all of them at random."""
    count = 300
    index = shards.plan([f"{image}" for image in range(count)], (shards.Rows({"map": np.ones(4, bool)}),) * count,
                        {"map": 3}, 1)
    before = psutil.Process().num_fds()
    writer = shards.Writer(tmp_path, index, {"map": 3})
    for image in range(count):
        writer.append({"map": np.full((4, 3), image)})
        assert psutil.Process().num_fds() <= before + 1
    writer.close()
    store = shards.Reader(tmp_path)
    views = [store.view("map", f"{image}") for image in range(count)]
    assert len(list(tmp_path.glob("*.npy"))) == count
    assert psutil.Process().num_fds() == before
    assert [int(view[3, 2]) for view in views] == list(range(count))
