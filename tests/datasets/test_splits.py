"""Splits: a hash that adding images cannot disturb, and lists followed without a silent choice."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from lib.datasets.records import Record, Source
from lib.datasets.settings import DataSettings
from lib.datasets.splits import assign, hash_split

IDS = st.lists(st.text(min_size=1), min_size=1, unique=True)


def source(**sets):
    """A source in which each set holds the named images."""
    names = sorted({image for images in sets.values() for image in images})
    records = [Record(name, sets={s for s, images in sets.items() if name in images and s != "none"}) for name in names]
    return Source("voc", records, {name for name in sets if name != "none"})


def assigned(data, **settings):
    splits, faults = assign(data, DataSettings(**settings))
    return splits, [fault.kind for fault in faults]


@given(IDS, IDS, st.integers())
def test_adding_images_moves_none(before, added, seed):
    first, _ = assigned(source(none=before), seed=seed)
    second, _ = assigned(source(none=before + added), seed=seed)
    assert first == {image: second[image] for image in before}


@given(st.text(), st.integers(), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5))
def test_larger_val_fraction_only_takes_from_train(image, seed, test, small, large):
    small, large = sorted((small, large))
    before, after = hash_split(image, seed, test, small), hash_split(image, seed, test, large)
    assert before == after or (before, after) == ("train", "val")


@pytest.mark.parametrize(("test", "val", "split"), [(1, 0, "test"), (0, 1, "val"), (0, 0, "train")])
def test_whole_fractions(test, val, split):
    assert {hash_split(f"{i}.jpg", 0, test, val) for i in range(100)} == {split}


def test_shares_are_as_asked():
    splits = [hash_split(f"images/{i:06}.jpg", 3, 0.2, 0.1) for i in range(10_000)]
    # Five standard deviations of a binomial are 0.02 and 0.015.
    assert splits.count("test") / 10_000 == pytest.approx(0.2, abs=0.02)
    assert splits.count("val") / 10_000 == pytest.approx(0.1, abs=0.015)


def test_draw_is_the_published_hash():
    import hashlib

    share = int(hashlib.blake2b(b"7 a/b.jpg", digest_size=8).hexdigest(), 16) / 2**64
    assert hash_split("a/b.jpg", 7, share + 1e-9, 0) == "test"
    assert hash_split("a/b.jpg", 7, share - 1e-9, 0) == "train"
    assert hash_split("a/b.jpg", 7, 0, 1 - share + 1e-9) == "val"


def test_complete_lists_are_followed():
    data = source(train="ab", val="c", trainval="abc", test="d", none="e")
    assert assigned(data) == ({"a": "train", "b": "train", "c": "val", "d": "test"}, [])


def test_hash_ignores_lists():
    splits, faults = assigned(source(train="ab", val="c", none="e"), splits="hash", val_fraction=1, test_fraction=0)
    assert splits == dict.fromkeys("abce", "val")
    assert not faults


def test_only_a_test_list():
    assert assigned(source(test="ab", none="c")) == ({"a": "test", "b": "test"}, [])


@pytest.mark.parametrize("given_sets", [{"train": "ab"}, {"val": "ab"}])
def test_trainval_completes_one_list(given_sets):
    splits, faults = assigned(source(trainval="abc", test="d", **given_sets))
    other = "val" if "train" in given_sets else "train"
    (name,) = given_sets
    assert splits == {"a": name, "b": name, "c": other, "d": "test"}
    assert not faults


@pytest.mark.parametrize("name", ["train", "trainval"])
def test_val_is_drawn_where_no_list_tells_it(name):
    images = [f"{i}.jpg" for i in range(200)]
    splits, faults = assigned(source(**{name: images}, test=["t"]), val_fraction=0.25, test_fraction=0.5)
    assert splits.pop("t") == "test"
    assert splits == {image: hash_split(image, 0, 0, 0.25) for image in images}
    assert {"train", "val"} == set(splits.values())
    assert not faults


def test_no_test_list_is_no_silent_choice():
    data = source(train=[str(i) for i in range(100)], val=["v"])
    assert assigned(data)[1] == ["no test split"]
    splits, faults = assigned(data, test_from="hash", test_fraction=0.5)
    listed = {image: "val" if image == "v" else "train" for image in splits}
    assert splits == {i: "test" if hash_split(i, 0, 0.5, 0) == "test" else listed[i] for i in splits}
    assert set(splits.values()) >= {"train", "test"}
    assert not faults


@pytest.mark.parametrize("pair", [("train", "val"), ("train", "test"), ("val", "test"), ("trainval", "test")])
def test_image_in_two_splits(pair):
    sets = {"train": "a", "val": "b", "test": "c"} | {name: "x" for name in pair}
    assert "image in two splits" in assigned(source(**sets))[1]


def test_trainval_beyond_train_and_val():
    splits, faults = assigned(source(train="a", val="b", trainval="abc", test="d"))
    assert faults == ["lists disagree"]
    assert splits["c"] == "train"


def test_folders_called_after_splits():
    ids = ["train/images/1.jpg", "valid/images/1.jpg", "test2017/x.jpg", "Training/2.jpg"]
    assert assigned(source(none=ids))[0] == dict(zip(sorted(ids), ["train", "test", "train", "val"], strict=True))


def test_some_folders_called_after_splits():
    splits, faults = assigned(source(none=["train/1.jpg", "other/1.jpg", "test/3.jpg"]))
    assert faults == ["split unclear"]
    assert "other/1.jpg" not in splits


def test_a_folder_that_only_holds_the_word_is_no_split():
    ids = [f"my-test-photos/{i}.jpg" for i in range(50)]
    assert len(set(assigned(source(none=ids))[0].values())) == 3
