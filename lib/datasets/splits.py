"""Which image is for training, validation and test.

Lists of the data set are followed: those that `data.lists` names, or ImageSets/Main (VOC), a JSON file per split
(COCO), or else folders called train, val (valid) and test that hold every image. Without any, a hash of its id
assigns each image, so that adding images moves none of the others.

What lists leave open, never silently:

===================  ===================================================================================
trainval, no val     val is trainval without train; without a train list too, the hash assigns
                     `val_fraction` of trainval to it
trainval, no train   train is trainval without val
train only           the hash assigns `val_fraction` of train to val
no test              an error, unless `test_from` is "hash" (`test_fraction` of the listed images, taken first)
test only            the whole set is for test
in no list           left out, and counted in the data report
===================  ===================================================================================
"""

from collections import Counter
from hashlib import blake2b
from typing import Literal, Protocol

from lib.datasets.listing import set_of_folder
from lib.datasets.lists import UNUSED
from lib.datasets.records import Source
from lib.stage.errors import Fault

SPLITS = ("train", "val", "test")
TestFrom = Literal["lists", "hash"]

_HASH = "Fix the lists or folders, or set data.splits: hash to make all splits by hash"


def hash_split(image_id: str, seed: int, test_fraction: float, val_fraction: float) -> str:
    """Split of an image, from nothing but its id and the seed.

    test_fraction, val_fraction : expected shares, in [0, 1], together at most 1; raising one moves images
                                  there from train, and none between val and test
    """
    digest = blake2b(f"{seed} {image_id}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    if share < test_fraction:
        return "test"
    return "val" if share >= 1 - val_fraction else "train"


class Rules(Protocol):
    """What `assign` reads of the data settings.

    splits    : lists follows lists and folders where there are any; hash makes all
    test_from : where lists have no test
    """

    @property
    def splits(self) -> Literal["lists", "hash"]: ...
    @property
    def test_from(self) -> TestFrom: ...
    @property
    def val_fraction(self) -> float: ...
    @property
    def test_fraction(self) -> float: ...
    @property
    def seed(self) -> int: ...


def assign(source: Source, rules: Rules) -> tuple[dict[str, str], list[Fault]]:
    """Split of each image that is used (image_id -> train, val or test), and the faults of the lists.

    Images that no list names are not in it.
    """
    faults: list[Fault] = []
    sets_of_image, sets = _sets_of_images(source, faults) if rules.splits == "lists" else ({}, set())
    if sets:
        if "test" not in sets and rules.test_from == "lists":
            faults.append(_no_test(sets, source))
        return _from_lists(sets_of_image, sets, rules, faults), faults
    ids = [record.image_id for record in source.records]
    return {name: hash_split(name, rules.seed, rules.test_fraction, rules.val_fraction) for name in ids}, faults


def _sets_of_images(source: Source, faults: list[Fault]) -> tuple[dict[str, set[str]], set[str]]:
    """Sets of each image, and the names of all sets: from lists, or else from folders."""
    if source.sets:
        return {record.image_id: record.sets for record in source.records}, source.sets
    folders = {record.image_id: set_of_folder(record.image_id) for record in source.records}
    named = Counter(folders.values())
    if named[None] and len(named) > 1:
        counts = ", ".join(f"{count} in {name or 'none'}" for name, count in sorted(named.items(), key=str))
        faults.append(
            Fault(
                "split unclear",
                "folders",
                f"some images lie in a folder called after a split: {counts}",
                "all images or none",
                _HASH,
            )
        )
    sets = {name for name in named if name}
    return {image_id: {name} for image_id, name in folders.items() if name}, sets


def _no_test(sets: set[str], source: Source) -> Fault:
    unused = "".join(f"; {note.where}: {note.problem}" for note in source.notes if note.kind == UNUSED)
    problem = f"there is {', '.join(sorted(sets))}, but no test (data.test_from is lists){unused}"
    remedy = "Add one, or set data.test_from: hash (taken from all)"
    if source.sets:
        remedy += ", or name the lists, for example data.lists: {train: train, val: null, test: val}"
    return Fault("no test split", "split lists", problem, "a test list", remedy)


def _from_lists(
    sets_of_image: dict[str, set[str]], sets: set[str], rules: Rules, faults: list[Fault]
) -> dict[str, str]:
    has_val = "val" in sets or {"train", "trainval"} <= sets
    takes_test = "test" not in sets and rules.test_from == "hash"
    splits: dict[str, str] = {}
    for image_id, names in sets_of_image.items():
        if not names:
            continue
        split = _split_of(image_id, names, sets, faults)
        if takes_test and hash_split(image_id, rules.seed, rules.test_fraction, 0) == "test":
            split = "test"
        elif split == "train" and not has_val:
            split = hash_split(image_id, rules.seed, 0, rules.val_fraction)
        splits[image_id] = split
    return splits


def _split_of(image_id: str, names: set[str], sets: set[str], faults: list[Fault]) -> str:
    """The split of one image by the lists; trainval counts only where no finer list names the image."""
    fine = names - {"trainval"}
    if len(fine) > 1 or names == {"test", "trainval"}:
        faults.append(
            Fault(
                "image in two splits",
                image_id,
                f"is listed in {' and '.join(sorted(names))}",
                "one of train, val, test",
                _HASH,
            )
        )
    if fine:
        return next(split for split in ("test", "val", "train") if split in fine)
    if {"train", "val"} <= sets:
        faults.append(
            Fault(
                "lists disagree",
                image_id,
                "is listed in trainval, but in neither train nor val",
                "trainval = train + val",
                f"{_HASH}, or data.faults: lenient to train on it",
            )
        )
        return "train"
    return "val" if "train" in sets else "train"
