"""The four steps of Faster R-CNN, the proposals between them and the joint training, on three small photographs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib.backbones import backbones, model_file
from lib.backbones.device import Device
from lib.detectors.fast import network as fast
from lib.detectors.faster import network as faster
from lib.detectors.faster.rpn import Proposing
from lib.images.image_set import Splits
from lib.stage import params, schemas
from lib.stage.errors import InputError
from lib.storage import tables
from lib.storage.by_image import ByImage
from stages import propose_rpn, train_detector, train_joint, train_rpn
from tests.images_on_disk import write

CPU = Device(torch.device("cpu"), torch.float32)
OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [], [(50, 20, 110, 90)]]
OPTIMISATION = dict(
    iterations=2, optimiser="adamw", learning_rate=0.001, momentum=0.9, weight_decay=0.0005, bias_multiplier=1.0,
    head_multiplier=1.0, schedule="cosine", step=3, gamma=0.1, warmup=0.0, parts=2, checkpoint_every=1,
    scale={"short_side": [120], "max_side": 400}, images=2, mirror=0.5, precision="float32",
)
RPN = dict(
    **OPTIMISATION, targets={"positive": 0.7, "negative": 0.3, "anchors": 64, "positive_share": 0.5},
    loss={"normaliser": "sampled", "box_weight": 1.0, "sigma": 3.0},
)
REGIONS = dict(regions=32, foreground_share=0.25, foreground=0.5, background=[0.0, 0.5], fc=16, dropout=0.0, box_loss="smooth_l1", beta=1.0, box_weight=1.0)
DETECTOR = dict(**OPTIMISATION, **REGIONS, proposals_max=None, stage_wise=False, statistics="per_class", std_floor=0.01)
PROPOSING = {"pre_nms": 100, "post_nms": 20, "nms": 0.7, "min_size": 8.0}
VALUES = {
    "seed": 3, "splits": {"train": ["train"], "test": ["test"]},
    "faster": {
        "difficult": False,
        "anchors": {"scales": [32.0, 64.0], "ratios": [0.5, 1.0, 2.0], "base": 16.0, "centre": 8.0},
        "rpn": {"width": 16, "score": "softmax"},
        "m1": {**RPN, "frozen": 3}, "m3": {**RPN, "frozen": "all"},
        "p1": "proposals/p1_training.parquet", "p2": "proposals/p2_training.parquet",
        "propose": {"training": PROPOSING, "test": {**PROPOSING, "post_nms": 5}, "precision": "float32"},
        "m2": {**DETECTOR, "frozen": 3, "head": "fresh"}, "m4": {**DETECTOR, "frozen": "all", "head": "previous"},
    },
    "faster_joint": {"train": {**RPN, **REGIONS, "frozen": 3, "proposing": PROPOSING}},
}


class Life(SimpleNamespace):
    """The part of a stage's life that these scripts use, in a temporary folder."""

    def __init__(self, folder: Path, name: str, script, args: list[str], inputs: list[str], outputs: list[str]) -> None:
        scratch = folder / "scratch" / name
        scratch.mkdir(parents=True, exist_ok=True)
        # The test images are the training images here, which the check forbids.
        values = params.validate({**VALUES, "splits": {"train": ["train"], "test": ["test"]}}, schemas.keys(script.PARAMS, args))
        values["splits"] = Splits.model_construct(**VALUES["splits"])
        compute = params.Compute(device="cpu", workers=0, launcher="loky", memory_gib=1.0)
        super().__init__(name=name, args=args, item=args[0], params=values, compute=compute, data_root=str(folder),
                         scratch=scratch, folder=folder, inputs=inputs, outputs=outputs, said=[])

    def dep(self, path: str) -> Path:
        return self.folder / path.removeprefix("data/")

    out = dep

    def deps(self, suffix: str) -> list[Path]:
        return [self.folder / path for path in self.inputs if path.endswith(suffix)]

    def outs(self, suffix: str) -> list[Path]:
        return [self.folder / path for path in self.outputs if path.endswith(suffix)]

    def announce(self, work: str, disk: int = 0, memory: int = 0) -> None:
        self.said.append(work)

    def progress(self, items, total: int, unit: str, done: int = 0):
        return iter(items)


def steps(folder: Path) -> None:
    """M1, P1, M2, M3, P2, M4 and the joint model, from an M0 of random weights."""
    write(folder, OBJECTS)
    torch.manual_seed(0)
    backbones.save_m0(folder / "m0.pt", backbones.build("efficientnet_lite0"))
    rows = [
        ("m1", train_rpn, ["faster.m1"], ["m0.pt"], ["m1.pt"]),
        ("p1", propose_rpn, ["faster.propose", "p1"], ["m1.pt"], ["proposals/p1.parquet", "proposals/p1_training.parquet"]),
        ("m2", train_detector, ["faster.m2", "faster.p1"], ["m0.pt"], ["m2.pt", "results/plots/loss/m2.json"]),
        ("m3", train_rpn, ["faster.m3"], ["m2.pt"], ["m3.pt"]),
        ("p2", propose_rpn, ["faster.propose", "p2"], ["m3.pt"], ["proposals/p2.parquet", "proposals/p2_training.parquet"]),
        ("m4", train_detector, ["faster.m4", "faster.p2"], ["m3.pt", "m2.pt"], ["m4.pt", "results/plots/loss/m4.json"]),
        ("joint", train_joint, ["faster_joint", "faster"], ["m0.pt"], ["joint.pt"]),
    ]
    for name, script, args, inputs, outputs in rows:
        script.main(Life(folder, name, script, args, inputs, outputs))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which all has run. The photographs are the test split too, so that there is something to measure."""
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
    trunks = [tensors(folder / f"m{step}.pt") for step in (1, 2, 3, 4)]
    assert equal(trunks[1], trunks[2])
    assert equal(trunks[2], trunks[3])
    assert not equal(trunks[0], trunks[1])
    assert equal(tensors(folder / "m3.pt", "rpn"), tensors(folder / "m4.pt", "rpn"))
    assert not equal(tensors(folder / "m1.pt", "rpn"), tensors(folder / "m3.pt", "rpn"))
    assert not equal(tensors(folder / "m2.pt", "head"), tensors(folder / "m4.pt", "head"))


def test_step_2_starts_from_m0_and_not_from_step_1(folder):
    m0 = model_file.read(folder / "m0.pt").backbone.trunk.state_dict()
    for step in (1, 2):
        after = tensors(folder / f"m{step}.pt")
        changed = {name.split(".")[0] for name in m0 if not torch.equal(m0[name], after[name])}
        assert changed == {"3", "4", "5"}


def test_the_same_again_gives_the_same_bytes(folder, tmp_path):
    steps(tmp_path)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "speed" not in path.parts and "scratch" not in path.parts:
            assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_the_shared_model_detects_with_one_pass_and_the_unshared_pair_with_two(folder):
    chosen = faster.Detect(per_image=100, per_set=None, floor=None, nms=0.3, nms_before=None, most=None, regress=True, batch=100, precision="float32")
    for names, shared in ((["m4"], True), (["m3", "m4"], True), (["m1", "m2"], False), (["joint"], True)):
        paths = [folder / f"{name}.pt" for name in names]
        detector = faster.Detector(paths, chosen, Proposing(**PROPOSING), CPU, faster.Clock())
        assert detector.shared == shared
        boxes, scores = detector(detector.prepare(np.zeros((120, 160, 3), np.uint8)))[:2]
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
    life = Life(tmp_path, "p1", propose_rpn, ["faster.propose", "p1"], ["m1.pt"], ["proposals/p1.parquet", "proposals/p1_training.parquet"])
    life.params = {**life.params, "splits": life.params["splits"].model_copy(update={"train": ["train"], "test": ["test"]})}
    (tmp_path / "m1.pt").write_bytes((folder / "m1.pt").read_bytes())
    propose_rpn.main(life)
    table = ByImage(tmp_path / "proposals/p1.parquet", tables.PROPOSALS)
    assert len(table["images/train0.png"]) > 5
    assert 0 < len(table["images/test2.png"]) <= 5
    assert tables.read_json(tmp_path / "results/metrics/proposals/p1.json")["images"] == 1
    training = ByImage(tmp_path / "proposals/p1_training.parquet", tables.PROPOSALS)
    assert "images/test2.png" not in training
    for number in range(2):
        pd.testing.assert_frame_equal(training[f"images/train{number}.png"], table[f"images/train{number}.png"])


def test_a_head_of_other_classes_is_refused(folder, tmp_path):
    write(tmp_path, OBJECTS)
    m2 = model_file.read(folder / "m2.pt", "head")
    model_file.save(tmp_path / "m2.pt", m2.backbone, ["bird", "dog"], m2.scale, head=m2.sections["head"])
    for name in ("m3.pt", "proposals/p2_training.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    life = Life(tmp_path, "m4", train_detector, ["faster.m4", "faster.p2"], ["m3.pt", "m2.pt"], ["m4.pt", "results/plots/loss/m4.json"])
    with pytest.raises(InputError, match="bird"):
        train_detector.main(life)


def test_the_joint_model_holds_both_networks(folder):
    network, model = fast.load(folder / "joint.pt")
    assert set(model.sections) == {"rpn", "head"}
    assert network.head.std[1].tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2])
