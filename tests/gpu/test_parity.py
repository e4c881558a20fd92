"""Every stage that runs a network, on a GPU and on the CPU, from the same inputs: `make gpu`.

Skipped where torch finds no GPU. TEST_DEVICE=cpu runs the same on a CPU, which tests these tests; TEST_DEVICE=cuda:1
takes another GPU. All is float32 and without dropout, whose masks are of the device.
"""

import json
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import pick_device
from lib.boxes.boxes import iou
from lib.images.warp import sample, uncut, warp
from lib.stage import params, pipeline
from lib.storage import checkpoint, tables
from tests.images_on_disk import SIZE, write
from tests.life import FakeLife
from tests.pipeline.conftest import TINY

WORD = os.environ.get("TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(WORD != "cpu" and not torch.cuda.is_available(), reason="torch finds no GPU"),
]

ON_A_DEVICE = {f"stages.{verb}" for verb in ("train", "map_images", "extract", "propose_rpn", "detect")}
STAGES = {name: entry for name, entry in pipeline.entries().items() if entry.script in ON_A_DEVICE}
OTHERS = ("hog_features", "hog_windows", "train_svm", "fit_boxes", "compress")
INPUTS = {*ON_A_DEVICE, *(f"stages.{verb}" for verb in OTHERS)}
# What passes a gradient through the pooling of regions or of a pyramid adds in no fixed order on a GPU.
SAME_BYTES = [name for name in STAGES if name not in ("spp_pretrain", "fast", "m2", "m4", "faster_joint")]
OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [(20, 20, 90, 80)], [(50, 20, 110, 90)], [(30, 30, 100, 100)]]
# What differs by more than this share of the largest value is another result: bfloat16 would be, in most stages.
FEATURES, WEIGHTS = 0.003, 0.002
LOSSES, SCORES = 0.01, 0.02
CROPS = 0.02  # of R-CNN's features: its crops differ by 1 of 255


def values() -> dict[str, Any]:
    """params.yaml with the numbers of the tiny pipeline, two steps of plain SGD, float32."""
    found = params.load()
    for key, changes in TINY.items():
        block = found
        for part in key.split("."):
            block = block[part]
        block.update(changes)
    return _plain(found)


def _plain(block: dict[str, Any]) -> dict[str, Any]:
    fixed = {"precision": "float32", "dropout": 0.0, "optimiser": {"name": "sgd", "momentum": 0.9}}
    return {
        key: fixed[key] if key in fixed else 2 if key in ("iterations", "checkpoint_every")
        else _plain(value) if isinstance(value, dict) else value
        for key, value in block.items()
    }


class Twin(FakeLife):
    """A stage that reads the folder of the CPU's run and writes into one of its own."""

    def __init__(self, folder: Path, outputs: Path, name: str, device: str) -> None:
        super().__init__(folder, name, values(), 1.0)
        self.compute = self.compute.model_copy(update={"device": device, "workers": 2})
        self.outputs, self.scratch = outputs, outputs / "scratch" / name
        self.scratch.mkdir(parents=True, exist_ok=True)

    def out(self, path: str) -> Path:
        target = self.outputs / path.removeprefix("data/")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def run(life: Twin) -> Path:
    """The stage, once; the folder of its outputs."""
    import_module(life.entry.script).main(life)
    return life.outputs


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run on the CPU."""
    folder = tmp_path_factory.mktemp("cpu")
    write(folder, OBJECTS, test=1)
    random = np.random.default_rng(0)
    corners = random.integers(0, [SIZE[0] - 30, SIZE[1] - 30], (len(OBJECTS), 30, 2))
    boxes = np.concatenate([corners, corners + random.integers(12, 30, corners.shape)], axis=2).astype(np.float32)
    for image, objects in enumerate(OBJECTS):
        boxes[image, : len(objects)] = objects
    rows = pd.DataFrame(boxes.reshape(-1, 4), columns=tables.BOX)
    rows.insert(0, "image_id", np.repeat(pd.read_parquet(folder / "tables/images.parquet")["image_id"], 30).to_numpy())
    (folder / "proposals").mkdir()
    tables.write(folder / "proposals/selective_search.parquet", rows.assign(score=1.0), tables.PROPOSALS)
    torch.manual_seed(0)
    (folder / "models").mkdir()
    backbones.save_m0(folder / "models/m0.pt", backbones.build("efficientnet_lite0"))
    for name, entry in pipeline.entries().items():
        if entry.script in INPUTS:
            run(Twin(folder, folder, name, "cpu"))
    return folder


@pytest.fixture(scope="module")
def on_gpu(on_cpu: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Stage -> the folder in which it alone has run on the GPU."""
    folder, done = tmp_path_factory.mktemp("gpu"), {}

    def outputs(name: str) -> Path:
        if name not in done:
            done[name] = run(Twin(on_cpu, folder / name, name, WORD))
        return done[name]

    return outputs


def files(outputs: Path) -> Iterator[str]:
    """What a stage has written, without its scratch and its times."""
    for path in sorted(outputs.rglob("*")):
        name = path.relative_to(outputs).as_posix()
        if path.is_file() and not name.startswith(("scratch/", "results/speed/")):
            yield name


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a model file, by its place in it."""
    if isinstance(value, torch.Tensor):
        yield name, value
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        yield from tensors(inner, f"{name}.{key}")


def assert_near(actual: Any, expected: Any, share: float, what: str) -> None:
    """No value is off by more than a share of the largest one."""
    actual, expected = (np.asarray(array, np.float64) for array in (actual, expected))
    assert actual.shape == expected.shape, what
    if expected.size:
        off, largest = np.abs(actual - expected).max(), np.abs(expected).max()
        assert off <= share * largest + 1e-12, f"{what}: {off} of {largest}"


def assert_same_boxes(actual: pd.DataFrame, expected: pd.DataFrame, what: str) -> None:
    """Nine of ten of an image's ten best proposals are there again."""
    for image_id, rows in expected.groupby("image_id"):
        others = tables.boxes(actual[actual["image_id"] == image_id])
        best = tables.boxes(rows.nlargest(10, "score", keep="first"))
        assert (iou(best, others).max(axis=1) > 0.95).mean() >= 0.9, f"{what}, {image_id}"


def assert_same_scores(actual: pd.DataFrame, expected: pd.DataFrame, what: str) -> None:
    """The best score of every class in every image."""
    best, other = (rows.groupby(["image_id", "class"])["score"].max() for rows in (expected, actual))
    assert set(best.index) == set(other.index), what
    assert_near(other[best.index], best, SCORES, what)


def check(name: str, actual: Path, expected: Path) -> None:
    """One file of a stage against the CPU's."""
    if name.endswith(".pt"):
        pairs = dict(tensors(checkpoint.load(actual))), dict(tensors(checkpoint.load(expected)))
        assert pairs[0].keys() == pairs[1].keys()
        for key, tensor in pairs[1].items():
            assert_near(pairs[0][key], tensor, WEIGHTS, f"{name} {key}")
    elif name.endswith(".npy"):
        share = CROPS if name.startswith("features/rcnn/") else FEATURES
        assert_near(np.load(actual), np.load(expected), share, name)
    elif name.startswith("proposals/"):
        assert_same_boxes(pd.read_parquet(actual), pd.read_parquet(expected), name)
    elif name.startswith("detections/"):
        assert_same_scores(pd.read_parquet(actual), pd.read_parquet(expected), name)
    elif name.startswith("results/plots/loss/"):
        rows = json.loads(actual.read_text()), json.loads(expected.read_text())
        for key in rows[1][0]:
            assert_near(*([step[key] for step in steps] for steps in rows), LOSSES, f"{name} {key}")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_gives_what_it_gives_on_a_cpu(name: str, on_cpu: Path, on_gpu: Any) -> None:
    outputs = on_gpu(name)
    written = list(files(outputs))
    assert written
    for path in written:
        check(path, outputs / path, on_cpu / path)


@pytest.mark.parametrize("name", SAME_BYTES)
def test_a_second_run_gives_the_same_bytes(name: str, on_cpu: Path, on_gpu: Any, tmp_path: Path) -> None:
    outputs, again = on_gpu(name), run(Twin(on_cpu, tmp_path, name, WORD))
    assert list(files(outputs)) == list(files(again))
    for path in files(outputs):
        assert (outputs / path).read_bytes() == (again / path).read_bytes(), path


def test_crops_are_those_of_opencv() -> None:
    device = pick_device(WORD, "float32")
    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    corners = np.random.default_rng(1).integers(0, [400, 300], (64, 2))
    boxes = np.hstack([corners, corners + np.random.default_rng(2).integers(1, 75, (64, 2))]).astype(np.float32)
    whole, expected = uncut(image, boxes, 227, 16), warp(image, boxes, 227, 16)
    pixels, gaps = sample(device.put(whole.image).permute(2, 0, 1).float(), device.put(whole.points))
    off = (pixels.cpu().permute(0, 2, 3, 1).numpy().astype(int) - expected.pixels)[~gaps[:, 0].cpu().numpy()]
    assert np.abs(off).max() <= 1


def test_float32_is_whole() -> None:
    """TF32 would be off by a thousandth part."""
    device = pick_device(WORD, "float32")
    random = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
    exact = random[0].astype(np.float64) @ random[1]
    product = (device.put(random[0]) @ device.put(random[1])).cpu().numpy()
    assert_near(product, exact, 1e-5, "matrix product")
    kernels = device.put(random[1].reshape(512, 512, 1, 1))
    convolved = torch.nn.functional.conv2d(device.put(random[0].T.copy()).view(1, 512, 512, 1), kernels)
    assert_near(convolved[0, :, :, 0].cpu().numpy(), random[1] @ random[0].T.astype(np.float64), 1e-5, "convolution")
