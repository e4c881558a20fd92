"""From proposals and features to regressors: from the regions that `extract` stores, what all regions would give."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib.boxes.samples import NormSample
from lib.images.image_set import ImageSet, Splits
from lib.stage.errors import InputError
from lib.storage import checkpoint, shards, tables
from lib.storage.by_image import ByImage
from stages import extract, fit_boxes
from tests.life import FakeLife

COUNT, PROPOSALS = 8, 30
WIDTHS = {"pool5": 6, "fc7": 3}
NORM = NormSample(target=20.0, images=3, boxes=4)


def features(image_id: str, regions: int) -> dict[str, np.ndarray]:
    """Random, always the same for an image."""
    random = np.random.default_rng(int(image_id[0]))
    return {name: random.gamma(2, 3, (regions, width)).astype(np.float32) for name, width in WIDTHS.items()}


class Extractor:
    """Stands for a network."""

    widths = WIDTHS

    def __init__(self, *arguments: object) -> None:
        pass

    def prepare(self, image: str, regions: np.ndarray) -> tuple[str, int]:
        return image, len(regions)

    def features(self, prepared: tuple[str, int], dtype: object) -> dict[str, np.ndarray]:
        return features(*prepared)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight training images with two objects each, and proposals around them, most of them loose."""
    ids = [f"{image}.jpg" for image in range(COUNT)]
    row = {"split": "train", "width": 140, "height": 140, "transpose": False, "content": ""}
    tables.write(tmp_path / "tables/images.parquet", pd.DataFrame([{"image_id": i, **row} for i in ids]), tables.IMAGES)
    box, rest = dict(zip(tables.BOX, (30.0, 30.0, 70.0, 70.0), strict=True)), {"truncated": False, "crowd": False}
    objects = [{"image_id": image_id, "object": number, "class": name, **box, "difficult": False, **rest}
               for image_id in ids for number, name in enumerate(("cat", "dog"))]
    frame = pd.DataFrame(objects)
    frame.loc[frame["object"] == 1, tables.BOX] += 40.0
    tables.write(tmp_path / "tables/objects.parquet", frame, tables.OBJECTS)
    tables.write_json(tmp_path / "tables/classes.json", ["cat", "dog"])
    random = np.random.default_rng(0)
    shifts = random.uniform(-16, 16, (240, 1)) + random.uniform(-2, 2, (240, 4))
    corners = np.repeat(frame[tables.BOX].to_numpy(), PROPOSALS // 2, axis=0) + shifts
    proposals = pd.DataFrame(corners, columns=tables.BOX).assign(score=1.0)
    proposals.insert(0, "image_id", np.repeat(ids, PROPOSALS))
    tables.write(tmp_path / "proposals/selective_search.parquet", proposals, tables.PROPOSALS)
    (tmp_path / "models/rcnn").mkdir(parents=True)
    (tmp_path / "models/rcnn/cnn.pt").touch()
    monkeypatch.setattr(ImageSet, "image", lambda image_set, image_id: image_id)
    return tmp_path


def run_extract(folder: Path, monkeypatch: pytest.MonkeyPatch, svm_layer: str, layer: str, more_than: float) -> str:
    """Runs the stage; returns what it announced."""
    values = {"seed": 3, "splits": Splits(train=["train"], test=["test"]), "rcnn.difficult": True,
              "rcnn.proposals_max": None, "rcnn.svm.layer": svm_layer,
              "rcnn.extract": extract.Extract(batch=2, precision="float32", shard_mib=1),
              "rcnn.boxes.layer": layer, "rcnn.boxes.more_than": more_than, "rcnn.boxes.norm": NORM}
    life = FakeLife(folder, "extract@rcnn", values)
    with monkeypatch.context() as patch:
        patch.setattr(extract, "import_module", lambda name: SimpleNamespace(Extractor=Extractor))
        extract.main(life)
    return life.said[0]


def fit(folder: Path, layer: str, more_than: float) -> dict:
    settings = fit_boxes.BoxFit(layer=layer, norm=NORM, penalty=1.0, more_than=more_than, whitening=0.001)
    values = {"seed": 3, "splits": Splits(train=["train"], test=["test"]), "rcnn.difficult": True,
              "rcnn.proposals_max": None, "rcnn.boxes": settings}
    fit_boxes.main(FakeLife(folder, "boxes@rcnn", values))
    return checkpoint.load(folder / "models/rcnn/boxes.pt", "weights", "bias", "samples", "scale")


@pytest.mark.parametrize("layer", ["pool5", "fc7"])
def test_a_part_of_the_regions_fits_what_all_would(folder, monkeypatch, layer):
    """SVMs on the same layer need all regions, SVMs on the other layer leave only those that the regressors read."""
    other = {"pool5": "fc7", "fc7": "pool5"}[layer]
    models, stored = {}, {}
    for svm_layer in (layer, other):
        run_extract(folder, monkeypatch, svm_layer, layer, 0.6)
        sizes = {path.name[:-10]: len(np.load(path)) for path in (folder / "features/rcnn").glob("*.npy")}
        models[svm_layer], stored[svm_layer] = fit(folder, layer, 0.6), sizes
        (folder / "features/rcnn").rename(folder / f"features/{svm_layer}")
    everything = COUNT * (PROPOSALS + 2)
    assert stored[layer] == {layer: everything}, "a layer that nobody reads is not stored"
    assert stored[other][other] == everything
    assert 2 * COUNT < stored[other][layer] < everything / 2
    for name in ("weights", "bias", "samples"):
        assert torch.equal(models[layer][name], models[other][name])
    assert models[layer]["scale"] == models[other]["scale"]
    assert models[layer]["samples"].sum() > 2 * COUNT


def test_a_lower_threshold_than_extract_had_is_refused(folder, monkeypatch):
    run_extract(folder, monkeypatch, "fc7", "pool5", 0.6)
    with pytest.raises(InputError, match=r"holds pool5 of \d+ of the 32 regions of .*settings of the SVMs and the reg"):
        fit(folder, "pool5", 0.3)


def test_features_of_other_regions_are_refused(folder, monkeypatch):
    run_extract(folder, monkeypatch, "fc7", "pool5", 0.6)
    path = folder / "proposals/selective_search.parquet"
    tables.write(path, tables.read(path, tables.PROPOSALS)[::-1], tables.PROPOSALS)
    with pytest.raises(InputError, match="holds other rows of 0.jpg"):
        fit(folder, "pool5", 0.6)


def test_the_disk_is_announced_by_layer_and_is_what_is_written(folder, monkeypatch):
    said = run_extract(folder, monkeypatch, "fc7", "pool5", 0.6)
    assert said == "8 images, 256 regions, pool5 0 MiB, fc7 0 MiB"
    index = tables.read(folder / "features/rcnn/index.parquet", shards.INDEX)
    written = {name: sum(np.load(path).nbytes for path in (folder / "features/rcnn").glob(f"{name}-*"))
               for name in WIDTHS}
    assert shards.size(index, WIDTHS) == written
    table = ByImage(folder / "proposals/selective_search.parquet", tables.PROPOSALS)
    assert shards.Reader(folder / "features/rcnn").rows("0.jpg") == table.count("0.jpg") + 2


def test_a_layer_that_the_network_lacks_is_named(folder, monkeypatch):
    monkeypatch.setattr(Extractor, "widths", {"fc7": 3})
    with pytest.raises(InputError, match=r"rcnn, layer: is pool5.*Allowed: fc7"):
        run_extract(folder, monkeypatch, "fc7", "pool5", 0.6)
