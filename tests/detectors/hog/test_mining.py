"""Which windows become negatives, and that scores at test are those of training."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.boxes.boxes import iou
from lib.detectors.hog import mining
from lib.detectors.hog.detector import Detect, Detector, Proposing
from lib.detectors.hog.network import Windows, window
from lib.detectors.hog.pyramid import Store
from lib.images.image_set import ImageSet
from lib.linear.task import Given
from lib.parallel.clock import Clock
from lib.stage.errors import InputError
from lib.storage import checkpoint, tables
from tests.detectors.hog import shapes_on_disk as shapes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mining")
    shapes.write(folder, train=8, test=2)
    shapes.run(folder, "hog_features", "hog_windows")
    return folder


def begun(folder, difficult=True, memory=2**60, **others):
    """The mining, before its first image."""
    svm = mining.Svm(**{**shapes.values()["hog"]["svm"], **others})
    images = ImageSet(str(folder), folder / "tables", ["train"], difficult)
    paths = {"features": folder / "features/hog", "regions": folder / "models/hog/windows.pt"}
    given = Given("svm@hog", "hog", {"hog.svm": svm}, 3, images, paths.__getitem__, memory)
    return mining.task(given).begin(), images


def test_the_first_training_sees_random_windows_alone(made):
    mined, images = begun(made, evict_threshold=-1e9)
    contents = checkpoint.load(made / "models/hog/windows.pt", "negatives")
    assert [row["negatives"] for row in mined.log_rows()] == [len(part) for part in contents["negatives"]]
    assert all(miner.trained.all() for miner in mined.miners)
    windows = Windows.load(made / "models/hog/windows.pt")
    store = Store(made / "features/hog", windows.descriptor, windows.pyramid)
    for miner, template, drawn in zip(mined.miners, windows.templates, contents["negatives"], strict=True):
        for row, (number, level, y, x) in list(zip(miner.cache.rows, drawn.tolist(), strict=True))[::7]:
            places = store.read(images.ids[number], images.size(images.ids[number]))[level]
            np.testing.assert_array_equal(row, window(places, y, x, template.places(windows.descriptor)))


def test_memory_by_hand():
    """Two templates of 10 and 20 features, in 2 rounds of 6 images.

    At most 100 + 30 + 5 rows are cached, and of the second no more than 40 and 5 of each image; the training of the
    first takes the most: a copy of its rows, and 24 bytes a number for its 3 positives and 100 negatives.
    """
    svm = mining.Svm(**{**shapes.values()["hog"]["svm"], "max_negatives": 100, "retrain_after": 30, "per_image": 5,
                        "rounds": 2})
    held = 4 * 10 * (3 + 135) + 4 * 2 * (4 + 100)
    assert mining.memory([10, 2], [3, 4], [90, 40], svm, 6) == held + 4 * 10 * 135 + 24 * 10 * 103 + 64 * 103


# Full miners, a checkpoint of all, a training; from what the process holds before to its peak.
MEASURE = r"""
import re, sys
from pathlib import Path
import numpy as np
from lib.detectors.hog import mining
from lib.linear.mining import Miner
from stages.train_svm import keep
from tests.detectors.hog.shapes_on_disk import values

svm = mining.Svm(**{**values()["hog"]["svm"], "max_negatives": 3000, "retrain_after": 500, "per_image": 1, "rounds": 9,
                    "max_iter": 1, "evict_threshold": -1e9})
of = lambda name: 1024 * int(re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])
random, folder = np.random.default_rng(0), Path(sys.argv[1])

def rows(count, length):
    return random.random((count, length), np.float32), np.ones((count, 1), bool)

def miner(length):
    return Miner(["a"], {"a": rows(5, length)[0]}, svm)

warm = miner(9)
warm.take(0, np.arange(9), *rows(9, 9))
keep(folder, [warm], 1)
before, miners = of("VmRSS"), []
for _ in range(6):
    miners.append(miner(1200))
    miners[-1].trained[:] = True
    miners[-1]._added -= 3000
    for image in range(7):
        miners[-1].take(image, np.arange(500), *rows(500, 1200))
keep(folder, miners, 2)
miners[-1].take(9, np.arange(1), *rows(1, 1200), last=True)
print(of("VmHWM") - before, mining.memory([1200] * 6, [5] * 6, [3000] * 6, svm, 100))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_what_a_process_takes(tmp_path):
    root = Path(__file__).parents[3]
    at_once = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, cwd=root, env=at_once, capture_output=True, text=True, check=True)
    measured, said = map(int, done.stdout.split())
    assert measured / 1.3 < said < measured * 1.3


def test_fewer_negatives_than_random_windows_are_refused(made):
    """Else the first training would leave out the random windows of the last images."""
    contents = checkpoint.load(made / "models/hog/windows.pt", "negatives")
    most = max(len(part) for part in contents["negatives"])
    begun(made, max_negatives=most)
    with pytest.raises(InputError, match=rf"hog.svm.max_negatives: is {most - 1}, .* {most} random.*hog.windows.neg"):
        begun(made, max_negatives=most - 1)


def test_hard_windows_are_above_the_threshold_and_off_the_class(made):
    """Each by hand: its features from the store, its score under the model that found it, its IoU."""
    mined, images = begun(made, retrain_after=10**6, per_image=5)
    windows = Windows.load(made / "models/hog/windows.pt")
    store = Store(made / "features/hog", windows.descriptor, windows.pyramid)
    mined.add(0)
    size = images.size(images.ids[0])
    places, levels = store.read(images.ids[0], size), store.levels(size)
    objects, labels = images.objects(images.ids[0])
    for miner, template in zip(mined.miners, windows.templates, strict=True):
        keys = miner.cache.keys(0)
        own = keys[keys[:, 0] == 0][:, 1]
        assert 0 < len(own) <= 5
        rows = miner.cache.rows[-len(own) :]
        for key, row in zip(own.tolist(), rows, strict=True):
            level, y, x = key >> 40, key >> 20 & 2**20 - 1, key & 2**20 - 1
            np.testing.assert_array_equal(row, window(places[level], y, x, template.places(windows.descriptor)))
            assert row @ miner.weights[0] + miner.bias[0] > miner.settings.hard_threshold - 1e-4
            box = windows.boxes(template, levels[level], np.array([y]), np.array([x]))
            assert iou(box, objects[labels == template.label]).max(initial=0) < 0.3


def test_the_hardest_of_an_image_are_taken(made):
    every, _ = begun(made, retrain_after=10**6, per_image=10**6)
    few, _ = begun(made, retrain_after=10**6, per_image=3)
    every.add(0)
    few.add(0)
    for all_of, best in zip(every.miners, few.miners, strict=True):
        scores = [np.sort(m.scores(m.cache.rows[m.cache._keys[:, 0] == 0])[:, 0])[::-1] for m in (all_of, best)]
        assert len(scores[0]) > 3
        np.testing.assert_allclose(scores[1], scores[0][:3], rtol=1e-5)


def test_a_window_is_held_once_over_the_rounds(made):
    mined, _ = begun(made, rounds=3, evict_threshold=-1e9, retrain_after=10**6)
    for step in range(24):
        mined.add(step)
    for miner in mined.miners:
        keys = miner.cache.keys(0)
        assert len(np.unique(keys, axis=0)) == len(keys)
    images = [row["image"] for row in mined.log_rows()]
    assert images == sorted(images)
    assert set(images) == {-1, 7, 15, 23}


def test_scores_at_test_are_those_of_training(made):
    """Case 143: the model of the file, on a training image, against the miner's own scores of stored windows."""
    mined, images = begun(made)
    for step in range(16):
        mined.add(step)
    checkpoint.save(made / "models/hog/svm.pt", mined.sections())
    files = {"model": made / "models/hog/windows.pt", "scores": made / "models/hog/svm.pt"}
    detect = Detect(**{**shapes.values()["hog"]["detect"], "floor": -0.8, "regress": False})
    detector = Detector(files, detect, Proposing(octave=3), None, Clock())
    scored = detector(detector.prepare(images.image(images.ids[1])))
    windows, size = detector.windows, images.size(images.ids[1])
    store = Store(made / "features/hog", windows.descriptor, windows.pyramid)
    places, levels = store.read(images.ids[1], size), store.levels(size)
    assert len(scored.boxes) > 3
    for box, scores, number in zip(scored.boxes, scored.scores, scored.origin["level"], strict=True):
        (label,) = np.flatnonzero(np.isfinite(scores))
        template, miner = windows.templates[label], mined.miners[label]
        shape = template.places(windows.descriptor)
        counts = [side - part + 1 for side, part in zip(places[number].shape[:2], shape, strict=True)]
        rows, columns = np.indices(counts)
        boxes = windows.boxes(template, levels[number], rows.ravel(), columns.ravel())
        (at,) = np.flatnonzero((boxes == box).all(axis=1))
        row = window(places[number], rows.ravel()[at], columns.ravel()[at], shape)
        assert scores[label] == pytest.approx(row @ miner.weights[0] + miner.bias[0], abs=5e-3)


def test_negatives_stay_off_difficult_objects_and_crowd_regions(tmp_path):
    """Every second ring is difficult, every second cross a crowd region, and nothing else keeps a window out."""
    shapes.write(tmp_path, train=4, test=0)
    path, settings = tmp_path / "tables/objects.parquet", shapes.values(windows={"negatives": 10**5, "apart": 0.3})
    objects = tables.read(path, tables.OBJECTS)
    for name, mark in (("ring", "difficult"), ("cross", "crowd")):
        objects.loc[objects.index[objects["class"] == name][1::2], mark] = True
    tables.write(path, objects, tables.OBJECTS)
    settings["hog"]["difficult"] = False
    shapes.run(tmp_path, "hog_features", "hog_windows", settings=settings)
    mined, images = begun(tmp_path, difficult=False, hard_threshold=-1e9, per_image=10**6, retrain_after=10**9,
                          max_negatives=10**6)
    windows = Windows.load(tmp_path / "models/hog/windows.pt")
    store = Store(tmp_path / "features/hog", windows.descriptor, windows.pyramid)
    for step in range(len(images)):
        mined.add(step)
    contents = checkpoint.load(tmp_path / "models/hog/windows.pt", "negatives")
    for miner, template, drawn in zip(mined.miners, windows.templates, contents["negatives"], strict=True):
        free, near, taken = 0, 0, {tuple(key) for key in miner.cache.keys(0).tolist()}
        for number, image_id in enumerate(images.ids):
            here = objects[(objects["image_id"] == image_id) & (objects["class"] == shapes.CLASSES[template.label])]
            size, (high, wide) = images.size(image_id), template.places(windows.descriptor)
            for level, sizes in enumerate(store.levels(size)):
                grid = np.indices((max(sizes.rows + 3 - high, 0), max(sizes.columns + 3 - wide, 0))).reshape(2, -1)
                boxes = windows.boxes(template, sizes, *grid)
                overlaps = iou(boxes, tables.boxes(here[~here["crowd"]])).max(axis=1, initial=0)
                for region in tables.boxes(here[here["crowd"]]):
                    inside = [np.maximum(boxes[:, k], region[k]) for k in (0, 1)]
                    sides = [np.minimum(boxes[:, k + 2], region[k + 2]) - inside[k] for k in (0, 1)]
                    shared = np.maximum(sides[0], 0) * np.maximum(sides[1], 0)
                    overlaps = np.maximum(overlaps, shared / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
                keys = {(number, (level << 40) + (y << 20) + x) for (y, x), overlap in
                        zip(grid.T.tolist(), overlaps, strict=True) if overlap < 0.3}
                free, near = free + len(keys), near + int((overlaps >= 0.3).sum())
                taken -= keys
        assert {key[0] for key in taken} <= {mining.RANDOM}
        assert len(drawn) == free
        assert near > 10
