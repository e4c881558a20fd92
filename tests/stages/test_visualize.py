"""`stages.visualize` on three small images with random weights: what it leaves, after a kill the same bytes."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from lib.backbones import backbones
from lib.storage import checkpoint, tables
from lib.visualization import work
from lib.visualization.attribution import CENTRE, KINDS
from stages import visualize
from tests.detectors.fast import models_on_disk
from tests.images_on_disk import write
from tests.life import FakeLife
from tests.stages.network_stages import values

OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [(20, 20, 70, 100)], [(50, 20, 110, 90), (5, 40, 50, 110)]]
BLOCK = {
    "visualize": {
        "images": 2, "boxes": 1, "occlusion": 2, "steps": 2,
        "units": {"count": 3, "images": 2, "proposals": 6, "top": 2, "nms": 0.1},
    }
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two test images, the first with a detection, the second with none."""
    root = tmp_path_factory.mktemp("visualize")
    write(root, OBJECTS, test=2)
    (root / "models/fast").mkdir(parents=True)
    models_on_disk.write(root / "models/fast")
    (root / "models/fast/one.pt").rename(root / "models/fast/detector.pt")
    backbones.save_m0(root / "models/m0.pt", backbones.build("efficientnet_lite0"))
    ids = tables.read(root / "tables/images.parquet", tables.IMAGES)["image_id"].tolist()
    random, rows = np.random.default_rng(0), []
    for image_id in ids:
        for x1, y1 in random.integers(0, 80, (8, 2)):
            rows.append((image_id, x1, y1, x1 + 40, y1 + 30, 1.0))
    proposals = pd.DataFrame(rows, columns=tables.PROPOSALS.names)
    tables.write(root / "proposals/selective_search.parquet", proposals, tables.PROPOSALS)
    found = pd.DataFrame([(ids[1], "cat", 20, 20, 70, 100, 0.9)], columns=tables.DETECTIONS.names)
    tables.write(root / "detections/fast.parquet", found, tables.DETECTIONS)
    visualize.main(life(root))
    return root


def life(root):
    return FakeLife(root, "visualize@fast", values({**BLOCK, "fast.detect": {"scores": "softmax"}}))


def hashes(root):
    files = [*(root / "visualization").rglob("*.*"), *(root / "results/metrics/visualization").glob("*")]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_what_it_leaves(folder):
    path = folder / "visualization/fast"
    assert sorted(file.name for file in (path / "boxes").iterdir()) == [
        "00.json", "00_0.png", "00_0.pt", "01.json", "01_0.png",
    ]
    assert (path / "filters.png").exists()
    maps = checkpoint.load(path / "boxes/00_0.pt")
    assert list(maps) == list(KINDS)
    assert {tuple(heat.shape) for heat in maps.values()} == {(120, 160)}
    assert maps["gradient"].max().item() == pytest.approx(1, abs=0.01)
    units = tables.read_json(path / "units/after.json")
    assert len(units) == 3
    for unit in units:
        assert len(unit["tops"]) == 2
        assert unit["tops"][0]["value"] >= unit["tops"][1]["value"]
    names = {unit["class"] for unit in units}
    assert len(list((path / "units").glob("*.png"))) == len(names) == 2


def test_figures(folder):
    figures = json.loads((folder / "results/metrics/visualization/fast.json").read_text())
    assert (figures["boxes"], figures["right"]) == (1, 1)
    assert set(figures) == {"boxes", "right", *KINDS, CENTRE, "units"}
    assert 0 <= figures["units"]["purity_after"] <= 1
    assert figures["grad_cam"]["pointing"] in (None, 0, 1)


def test_an_image_without_a_detection_is_no_error(folder):
    """Case 151: a picture that says so."""
    assert tables.read_json(folder / "visualization/fast/boxes/01.json")["boxes"] == []


def test_a_killed_run_goes_on_with_the_same_bytes(folder, monkeypatch):
    before = hashes(folder)
    for name in ("visualization/fast/boxes/00.json", "visualization/fast/units/before.json"):
        (folder / name).unlink()
    ranked = list((folder / "scratch/visualize@fast/ranked/before").iterdir())
    ranked[0].unlink()
    monkeypatch.setattr(work, "choose_units", lambda *arguments: pytest.fail("chosen once"))
    visualize.main(life(folder))
    assert hashes(folder) == before
