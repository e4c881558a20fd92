"""HOG's stages from images to detections: what they find, and that a killed run ends with the same bytes."""

import shutil

import numpy as np
import pandas as pd
import pytest

from lib.boxes.boxes import iou
from lib.detectors.hog import mining
from lib.images.image_set import Splits
from lib.report import glyphs
from lib.stage.errors import InputError
from lib.storage import checkpoint, tables
from stages import draw, hog_features, hog_windows, train_svm
from tests.detectors.hog import shapes_on_disk as shapes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hog")
    shapes.write(folder)
    shapes.run(folder)
    return folder


def test_it_finds_the_shapes(made):
    """The best box of a class in each test image that shows it lies on it, and scores higher than where none is."""
    detections = tables.read(made / "detections/hog.parquet", tables.DETECTIONS)
    objects = tables.read(made / "tables/objects.parquet", tables.OBJECTS)
    right, seen, wrong = 0, [], []
    for image_id in [f"{number:02d}.png" for number in range(20, 26)]:
        for name in shapes.CLASSES:
            own = detections[(detections["image_id"] == image_id) & (detections["class"] == name)]
            there = objects[(objects["image_id"] == image_id) & (objects["class"] == name)]
            if len(there):
                best = own.nlargest(1, "score")
                right += iou(tables.boxes(best), tables.boxes(there)).max(initial=0) > 0.6
                seen.append(best["score"].max())
            else:
                wrong.append(own["score"].max() if len(own) else -np.inf)
    assert right >= len(seen) - 1
    assert len(seen) >= 6
    assert np.median(seen) > max(wrong)


def test_a_box_has_one_score_its_own(made):
    """Case 141: each detection once, with a score above the floor, in its image."""
    detections = tables.read(made / "detections/hog.parquet", tables.DETECTIONS)
    assert not detections.duplicated(["image_id", "class", *tables.BOX]).any()
    assert (detections["score"] > shapes.values()["hog"]["detect"]["floor"]).all()
    assert (detections["x2"] <= shapes.SIZE[0]).all()
    assert (detections["y2"] <= shapes.SIZE[1]).all()


def copy(made, folder, *parts):
    for part in ("tables", *parts):
        shutil.copytree(made / part, folder / part)
    for image in made.glob("*.png"):
        shutil.copy(image, folder / image.name)
    return folder


@pytest.mark.parametrize("step", [1, 4, 23])
def test_a_killed_training_ends_with_the_same_bytes(made, tmp_path, monkeypatch, step):
    """Killed before image `step` of two rounds of twenty; checkpoints come every three."""
    copy(made, tmp_path, "features", "models")
    (tmp_path / "models/hog/svm.pt").unlink()
    add = mining.WindowMining.add

    def killed(self, number):
        if number == step:
            raise KeyboardInterrupt
        add(self, number)

    monkeypatch.setattr(mining.WindowMining, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        train_svm.main(shapes.life(tmp_path, "svm@hog"))
    assert (tmp_path / "scratch/svm@hog/state.pt").exists() == (step >= 3)
    assert len(list((tmp_path / "scratch/svm@hog").glob("miner-*.pt"))) == (2 if step >= 3 else 0)
    done = []
    monkeypatch.setattr(mining.WindowMining, "add", lambda self, number: (done.append(number), add(self, number)))
    train_svm.main(shapes.life(tmp_path, "svm@hog"))
    assert done == list(range(step // 3 * 3, 40))
    for name in ("models/hog/svm.pt", "results/plots/mining/hog.json"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


def test_killed_while_it_describes_and_cuts(made, tmp_path, monkeypatch):
    """Places go on shard by shard; windows begin again, and are quick."""
    copy(made, tmp_path)
    settings = shapes.values(features={"shard_mib": 1})
    reference = copy(made, tmp_path / "whole")
    hog_features.main(shapes.life(reference, "hog_features", settings))
    describe, calls = hog_features.pyramid.describe, []

    def killed(*values):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return describe(*values)

    monkeypatch.setattr(hog_features.pyramid, "describe", killed)
    with pytest.raises(KeyboardInterrupt):
        hog_features.main(shapes.life(tmp_path, "hog_features", settings))
    whole = len(list((tmp_path / "features/hog").glob("*.npy")))
    assert whole > 0
    monkeypatch.setattr(hog_features.pyramid, "describe", describe)
    hog_features.main(shapes.life(tmp_path, "hog_features", settings))
    files = sorted(path.name for path in (reference / "features/hog").iterdir())
    assert len(files) > whole + 1
    for name in files:
        assert (tmp_path / "features/hog" / name).read_bytes() == (reference / "features/hog" / name).read_bytes()


def test_says_what_it_costs_and_refuses_what_memory_cannot_hold(made, tmp_path):
    copy(made, tmp_path, "features", "models")
    life = shapes.life(tmp_path, "svm@hog")
    train_svm.main(life)
    assert life.said[0].startswith("20 images in 2 rounds, 2 templates of ")
    with pytest.raises(InputError, match=r"svm@hog: needs .* GiB of memory.*lower svm.max_negatives"):
        train_svm.main(shapes.life(tmp_path, "svm@hog", memory_gib=0.999 * life.memory / 2**30))


def test_windows_that_cannot_fit_are_told_before_the_training(made, tmp_path, capsys):
    """Case 144: without the doubled octave a window of 64 pixels fits no object of 30 to 44."""
    copy(made, tmp_path)
    settings = shapes.values(pyramid={"upscale": 1.0}, windows={"cells": [200.0, 300.0]})
    shapes.run(tmp_path, "hog_features", "hog_windows", settings=settings)
    assert "ring: no window has an IoU of 0.5 with" in capsys.readouterr().out
    rows = tables.read_json(tmp_path / "results/plots/windows/hog.json")
    assert [row["template"] for row in rows] == shapes.CLASSES
    assert all(row["fits"] == 0 for row in rows)


def test_features_of_other_settings_are_refused(made, tmp_path):
    copy(made, tmp_path, "features")
    settings = shapes.values(pyramid={"octave": 4})
    with pytest.raises(InputError, match="the pyramid has"):
        shapes.run(tmp_path, "hog_windows", "svm@hog", settings=settings)


def test_no_objects_at_all_are_refused(made, tmp_path):
    """Also where all of them are difficult, and these are left out."""
    copy(made, tmp_path)
    path, settings = tmp_path / "tables/objects.parquet", shapes.values()
    settings["hog"]["difficult"] = False
    objects = tables.read(path, tables.OBJECTS)
    tables.write(path, objects.assign(difficult=True), tables.OBJECTS)
    hog_windows.main(shapes.life(tmp_path, "hog_windows"))
    with pytest.raises(InputError, match="the training splits: hold no object of any class.*hog.difficult: true"):
        hog_windows.main(shapes.life(tmp_path, "hog_windows", settings))
    tables.write(path, objects.iloc[:0], tables.OBJECTS)
    with pytest.raises(InputError, match="the training splits: hold no object of any class"):
        hog_windows.main(shapes.life(tmp_path, "hog_windows"))


def test_a_block_larger_than_templates_is_refused(made, tmp_path):
    """Flat objects: 3 rows of cells. Both templates are named; a block as large as they are has one row of places."""
    copy(made, tmp_path)
    path = tmp_path / "tables/objects.parquet"
    objects = tables.read(path, tables.OBJECTS)
    tables.write(path, objects.assign(y2=objects["y1"] + 4), tables.OBJECTS)
    flat = {"margin": 0, "smallest": 0.0}
    hog_windows.main(shapes.life(tmp_path, "hog_windows", shapes.values(windows=flat, descriptor={"block": 3})))
    match = r"(?s)hog.descriptor.block: is larger than .* cross, 3 x .*at most 3.*larger than the template of ring, 3 x"
    with pytest.raises(InputError, match=match):
        hog_windows.main(shapes.life(tmp_path, "hog_windows", shapes.values(windows=flat, descriptor={"block": 4})))


def test_what_memory_cannot_hold_is_refused_before_an_image_is_read(made, tmp_path):
    copy(made, tmp_path)
    lives = {name: shapes.life(tmp_path, name) for name in ("hog_features", "hog_windows")}
    for name, life in lives.items():
        shapes.SCRIPTS[name].main(life)
    for image in tmp_path.glob("*.png"):
        image.unlink()
    lowers = {"hog_features": "hog.pyramid.upscale or compute.workers", "hog_windows": "hog.windows.copies"}
    for name, lower in lowers.items():
        memory_gib = 0.999 * lives[name].memory / 2**30
        with pytest.raises(InputError, match=rf"{name}: needs .* GiB of memory.*lower {lower}"):
            shapes.SCRIPTS[name].main(shapes.life(tmp_path, name, memory_gib=memory_gib))


def test_a_class_without_objects_has_no_template(made, tmp_path, capsys):
    copy(made, tmp_path, "features")
    objects = tables.read(tmp_path / "tables/objects.parquet", tables.OBJECTS)
    tables.write(tmp_path / "tables/objects.parquet", objects[objects["class"] == "ring"], tables.OBJECTS)
    shapes.run(tmp_path, "hog_windows", "svm@hog", "boxes@hog", "detect@hog")
    note = "cross: no object to learn from, so it has no template and no scores."
    assert capsys.readouterr().out.count(f"note: {note}") == 2
    assert checkpoint.load(tmp_path / "models/hog/svm.pt")["notes"][0] == note
    assert checkpoint.load(tmp_path / "models/hog/svm.pt", "templates")["templates"] == ["ring"]
    assert set(tables.read(tmp_path / "detections/hog.parquet", tables.DETECTIONS)["class"]) == {"ring"}


def test_one_object_is_one_however_many_copies_it_has(made, tmp_path, capsys):
    copy(made, tmp_path, "features")
    path = tmp_path / "tables/objects.parquet"
    objects = tables.read(path, tables.OBJECTS)
    crosses = objects.index[objects["class"] == "cross"]
    tables.write(path, objects.drop(crosses[1:]), tables.OBJECTS)
    settings = shapes.values(windows={"copies": 3, "mirror": True}, svm={"rounds": 0})
    shapes.run(tmp_path, "hog_windows", "svm@hog", settings=settings)
    assert "note: cross: its SVM rests on one object." in capsys.readouterr().out


def test_objects_that_are_all_too_small_are_said_and_their_template_gets_no_hits(made, tmp_path, monkeypatch, capsys):
    copy(made, tmp_path, "features")
    path = tmp_path / "tables/objects.parquet"
    objects = tables.read(path, tables.OBJECTS)
    crosses = objects["class"] == "cross"
    objects.loc[crosses, "x2"], objects.loc[crosses, "y2"] = objects["x1"] + 9, objects["y1"] + 9
    tables.write(path, objects, tables.OBJECTS)
    hits, every = mining.WindowMining._hits, []
    monkeypatch.setattr(mining.WindowMining, "_hits", lambda *values: every.append(hits(*values)) or every[-1])
    shapes.run(tmp_path, "hog_windows", "svm@hog", settings=shapes.values(svm={"rounds": 1}))
    said = capsys.readouterr().out
    count = (crosses & (objects["image_id"] < "20.png")).sum()
    assert f"note: cross: hog.windows.smallest leaves out all of its {count} objects." in said
    assert "note: cross: no object to learn from, so it has no SVM and no scores." in said
    assert sum(len(cross[0]) for cross, _ in every) == 0
    assert sum(len(ring[0]) for _, ring in every) > 0


def test_templates_are_drawn_and_rows_without_any_have_no_such_picture(made, tmp_path):
    copy(made, tmp_path, "models", "detections")
    rows = pd.DataFrame([(f"{k:02d}.png", 5, 5, 70, 70, 0.5) for k in range(20, 26)], columns=tables.PROPOSALS.names)
    tables.write(tmp_path / "proposals/selective_search.parquet", rows, tables.PROPOSALS)
    values = {"pictures": draw.Pictures(images=2, proposals=2, detections=2),
              "splits": Splits(train=["train"], test=["test"])}
    draw.main(shapes.life(tmp_path, "draw@hog", values))
    names = sorted(path.name for path in (tmp_path / "results/pictures/hog").iterdir())
    assert names == ["00.png", "01.png", "templates.png"]
    ring, cross = (checkpoint.load(made / "models/hog/svm.pt")["pictures"][k][0].numpy() for k in (1, 0))
    upright, middle = 0, ring.shape[0] // 2
    across = ring[middle, :, upright]  # the margin, the two cells of a side's stroke, the inside, and the same again
    assert across[[1, 2, -3, -2]].min() > across[3:-3].max() + 0.02, "the sides of a ring are upright edges"
    assert cross.shape[2] == ring.shape[2] == 9


def test_svms_of_regions_have_no_templates():
    assert glyphs.templates({"classes": ["cat"], "weights": None}) == []
