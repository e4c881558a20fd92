"""The four steps of Faster R-CNN, the proposals between them and the joint training, on three small images."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.backbones import backbones, model_file
from lib.backbones.device import Device
from lib.detectors.fast import network as fast
from lib.detectors.faster import detector as detector_module
from lib.detectors.faster.rpn import Proposing
from lib.images.image_set import Splits
from lib.parallel.clock import Clock
from lib.stage.errors import InputError
from lib.storage import checkpoint, tables
from lib.storage.by_image import ByImage
from stages import propose_rpn, train
from tests.images_on_disk import write
from tests.life import FakeLife

CPU = Device(torch.device("cpu"), torch.float32)
OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [], [(50, 20, 110, 90)]]
OPTIMISATION = dict(
    iterations=2, optimiser=dict(name="adamw"), learning_rate=0.001, clip_norm=None, weight_decay=0.0005,
    bias_multiplier=1.0,
    head_multiplier=1.0, schedule=dict(name="cosine", warmup=0.0), parts=2, checkpoint_every=1,
    scale={"short_side": [120], "max_side": 400}, images=2, mirror=0.5, precision="float32",
)
RPN = dict(
    **OPTIMISATION, targets={"positive": 0.7, "negative": 0.3, "anchors": 64, "positive_share": 0.5},
    loss={"normaliser": "sampled", "box_weight": 1.0, "sigma": 3.0},
)
REGIONS = dict(
    regions=32, foreground_share=0.25, foreground=0.5, background=[0.0, 0.5], pooling="max", fc=16,
    fc_init="gaussian", dropout=0.0, box_loss="smooth_l1",
    beta=1.0, box_weight=1.0,
)
DETECTOR = dict(**OPTIMISATION, **REGIONS, stage_wise=False, statistics="per_class", std_floor=0.01)
PROPOSING = {"pre_nms": 100, "post_nms": 20, "nms": 0.7, "min_size": 8.0}
VALUES = {
    "seed": 3, "splits": {"train": ["train"], "test": ["test"]},
    "faster": {
        "difficult": False,
        "proposals_max": None,
        "anchors": {"scales": [32.0, 64.0], "ratios": [0.5, 1.0, 2.0], "base": 16.0, "centre": 8.0},
        "rpn": {"width": 16, "score": "softmax"},
        "m1": {**RPN, "frozen": 3}, "m3": {**RPN, "frozen": "all"},
        "p1": "proposals/p1_training.parquet", "p2": "proposals/p2_training.parquet",
        "propose": {"training": PROPOSING, "test": {**PROPOSING, "post_nms": 5}, "precision": "float32"},
        "m2": {**DETECTOR, "frozen": 3, "head": "fresh"}, "m4": {**DETECTOR, "frozen": "all", "head": "previous"},
    },
    "faster_joint": {"train": {**RPN, **REGIONS, "frozen": 3, "proposing": PROPOSING}},
}

SCRIPTS = {
    "m1": train, "p1": propose_rpn, "m2": train, "m3": train, "p2": propose_rpn, "m4": train, "faster_joint": train,
}


def life(folder: Path, name: str) -> FakeLife:
    """The life of a stage with these params."""
    fake = FakeLife(folder, name, {**VALUES, "splits": {"train": ["train"], "test": ["test"]}})
    # The test images are the training images here, which the check forbids.
    fake.params["splits"] = Splits.model_construct(**VALUES["splits"])
    return fake


def model(folder: Path, name: str) -> Path:
    """The file of a model."""
    paths = {"m0": "models/m0.pt", "joint": "models/faster_joint/joint.pt"}
    return folder / paths.get(name, f"models/faster/{name}.pt")


def steps(folder: Path) -> None:
    """M1, P1, M2, M3, P2, M4 and the joint model, from an M0 of random weights."""
    write(folder, OBJECTS)
    torch.manual_seed(0)
    backbones.save_m0(model(folder, "m0"), backbones.build("efficientnet_lite0"))
    for name, script in SCRIPTS.items():
        script.main(life(folder, name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which all has run. The training images are the test split too, for something to measure."""
    patched, whole = pytest.MonkeyPatch(), tmp_path_factory.mktemp("steps")
    patched.setitem(VALUES, "splits", {"train": ["train"], "test": ["train"]})
    steps(whole)
    yield whole
    patched.undo()


def tensors(path: Path, section: str = ""):
    model = model_file.read(path)
    return model.sections[section]["tensors"] if section else model.backbone.trunk.state_dict()


def equal(first, second):
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_trunk_of_steps_2_3_and_4_is_one_bit_for_bit_and_the_proposer_of_3_and_4(folder):
    trunks = [tensors(model(folder, f"m{step}")) for step in (1, 2, 3, 4)]
    assert equal(trunks[1], trunks[2])
    assert equal(trunks[2], trunks[3])
    assert not equal(trunks[0], trunks[1])
    assert equal(tensors(model(folder, "m3"), "rpn"), tensors(model(folder, "m4"), "rpn"))
    assert not equal(tensors(model(folder, "m1"), "rpn"), tensors(model(folder, "m3"), "rpn"))
    assert not equal(tensors(model(folder, "m2"), "head"), tensors(model(folder, "m4"), "head"))


def test_step_2_starts_from_m0_and_not_from_step_1(folder):
    m0 = model_file.read(model(folder, "m0")).backbone.trunk.state_dict()
    for step in (1, 2):
        after = tensors(model(folder, f"m{step}"))
        changed = {name.split(".")[0] for name in m0 if not torch.equal(m0[name], after[name])}
        assert changed == {"3", "4", "5"}


def test_the_same_again_gives_the_same_bytes(folder, tmp_path):
    steps(tmp_path)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "speed" not in path.parts and "scratch" not in path.parts:
            assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_a_proposer_that_diverged_ends_with_the_image_and_no_table(folder, tmp_path):
    write(tmp_path, OBJECTS)
    m1 = torch.load(model(folder, "m1"), weights_only=True)
    m1["rpn"]["tensors"]["conv.weight"].fill_(torch.nan)
    checkpoint.save(model(tmp_path, "m1"), m1)
    with pytest.raises(InputError, match=r"images/\w+.png: scores of anchors: (\d+) of \1 are nan"):
        propose_rpn.main(life(tmp_path, "p1"))
    assert not (tmp_path / "proposals/p1.parquet").exists()


def test_the_shared_model_detects_with_one_pass_and_the_unshared_pair_with_two(folder):
    settings = detector_module.Detect(
        per_image=100, per_set=None, floor=None, nms=0.3, nms_before=None, most=None, regress=True, batch=100,
        precision="float32",
    )
    for names, shared in ((["m4"], True), (["m3", "m4"], True), (["m1", "m2"], False), (["joint"], True)):
        files = {"regions": model(folder, names[0]), "model": model(folder, names[-1])}
        detector = detector_module.Detector(files, settings, Proposing(**PROPOSING), CPU, Clock())
        assert detector.shared == shared
        boxes, scores, *_ = detector(detector.prepare(np.zeros((120, 160, 3), np.uint8)))
        assert len(boxes) == len(scores) > 0


def test_proposals_have_rows_for_every_image_and_figures(folder):
    table = ByImage(folder / "proposals/p1.parquet", tables.PROPOSALS)
    for number in range(3):
        rows = table[f"images/train{number}.png"]
        assert 0 < len(rows) <= 20
        assert rows["score"].is_monotonic_decreasing
    figures = tables.read_json(folder / "results/metrics/proposals/p1.json")
    assert {"recall_50", "recall_70", "abo", "boxes_per_image"} <= set(figures)
    assert figures["objects"] == 3
    anchors = tables.read_json(folder / "results/plots/anchors/m1.json")
    assert [(row["class"], row["objects"]) for row in anchors] == [("cat", 2), ("dog", 1)]


def test_training_and_test_images_get_the_proposals_of_their_settings(folder, tmp_path):
    write(tmp_path, OBJECTS, test=1)
    p1 = life(tmp_path, "p1")
    p1.params["splits"] = Splits(train=["train"], test=["test"])
    shutil.copytree(folder / "models", tmp_path / "models")
    propose_rpn.main(p1)
    table = ByImage(tmp_path / "proposals/p1.parquet", tables.PROPOSALS)
    assert len(table["images/train0.png"]) > 5
    assert 0 < len(table["images/test2.png"]) <= 5
    assert tables.read_json(tmp_path / "results/metrics/proposals/p1.json")["images"] == 1
    training = ByImage(tmp_path / "proposals/p1_training.parquet", tables.PROPOSALS)
    assert "images/test2.png" not in training
    for number in range(2):
        pd.testing.assert_frame_equal(training[f"images/train{number}.png"], table[f"images/train{number}.png"])


def test_a_split_that_is_not_used_gets_no_proposals(folder, tmp_path):
    """Numbers chosen on val leave the test images alone."""
    write(tmp_path, OBJECTS, test=1)
    path = tmp_path / "tables/images.parquet"
    images = tables.read(path, tables.IMAGES)
    images.loc[images["image_id"] == "images/train1.png", "split"] = "val"
    tables.write(path, images, tables.IMAGES)
    p1 = life(tmp_path, "p1")
    p1.params["splits"] = Splits(train=["train"], test=["val"])
    shutil.copytree(folder / "models", tmp_path / "models")
    propose_rpn.main(p1)
    assert set(tables.read(tmp_path / "proposals/p1.parquet", tables.PROPOSALS)["image_id"]) == {
        "images/train0.png", "images/train1.png"
    }


def test_a_head_of_other_classes_is_refused(folder, tmp_path):
    write(tmp_path, OBJECTS)
    m2 = model_file.read(model(folder, "m2"), "head")
    shutil.copytree(folder / "models", tmp_path / "models")
    shutil.copytree(folder / "proposals", tmp_path / "proposals")
    model_file.save(model(tmp_path, "m2"), m2.backbone, ["bird", "dog"], m2.scale, head=m2.sections["head"])
    with pytest.raises(InputError, match="bird"):
        train.main(life(tmp_path, "m4"))


def test_the_joint_model_holds_both_networks(folder):
    network, held = fast.load(model(folder, "joint"))
    assert set(held.sections) == {"rpn", "head"}
    assert network.head.std[1].tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2])
