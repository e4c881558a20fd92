"""Every stage that runs a network, on a simulated GPU: it ends with what the CPU makes, and the host hardly waits."""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lib.backbones.device import pick_device
from lib.detection import rows
from lib.detectors.rcnn import network as rcnn
from lib.images.image_set import ImageSet
from lib.parallel.clock import Clock
from lib.stage import params, pipeline
from lib.storage import tables
from lib.storage.by_image import ByImage
from lib.training import loop
from stages import predict
from tests import simulated_device
from tests.life import FakeLife
from tests.stages import network_stages
from tests.stages.network_stages import METHODS, SCRIPTS, TRAININGS

TRUNKS = {"efficientnet_lite0": tuple(SCRIPTS), "resnet18": ("fast", "m1", "p1")}  # both with frozen leading parts
# A step reads its losses; SPPnet's pre-training also the rows of crops that are new to it. Joint training needs the
# proposals of each of its two images on the host, for sampling, and the losses of the step before come with them.
STEP_WAITS = {**dict.fromkeys(TRAININGS, 1), "spp_pretrain": 2, "faster_joint": 2}
# The results of an image come at once. SPPnet pools on the host between its two networks; a proposer's boxes come to
# the host before they are pooled.
IMAGE_WAITS = {
    "rcnn": 1, "spp": 2, "fast": 1, "fast_svd": 1, "fast_svm": 1, "faster": 2, "faster_unshared": 2, "faster_joint": 2,
    "yolo": 2, "ssd": 2, "retinanet": 2,  # how many pairs are above the minimum score decides what is sent
}


class CountingLife(FakeLife):
    """Counts the waits of each step between the first and the last, which prepare and finish."""

    def progress(self, items: Any, total: int, unit: str, done: int = 0) -> Iterator[Any]:
        marks = self.marks = []
        for item in items:
            marks.append(len(self.gpu.waits))
            yield item


@pytest.fixture(scope="module", params=list(TRUNKS))
def runs(request, tmp_path_factory):
    """`cpu` and `gpu`: folders with what the stages of a trunk made; `waits`: lists, by training and by method."""
    names, folder = TRUNKS[request.param], tmp_path_factory.mktemp(request.param)
    values, waits = network_stages.values(), {}
    for device in ("cpu", "gpu"):
        network_stages.start(folder / device, request.param)
    with pytest.MonkeyPatch.context() as patch:
        # A GPU cuts R-CNN's crops itself, within 1 of 255 of OpenCV's; cut so here too, the rest can be compared.
        patch.setattr(rcnn.Extractor, "prepare", lambda self, image, boxes: self.network.uncut(image, boxes))
        for name in names:
            SCRIPTS[name].main(FakeLife(folder / "cpu", name, values))
    with simulated_device.installed() as gpu, pytest.MonkeyPatch.context() as patch:
        # A batch is prepared in another thread, a step ahead: here in its own step, so that each has its waits.
        patch.setattr(loop, "ahead", lambda function, items: map(function, items))
        for name in names:
            life = CountingLife(folder / "gpu", name, values, device="auto")
            life.gpu = gpu
            SCRIPTS[name].main(life)
            if name in TRAININGS:
                waits[name] = [gpu.waits[start:end] for start, end in pairwise(life.marks[1:])]
        for method in METHODS:
            if f"detect@{method}" in names:
                waits[method] = [waits_of_an_image(gpu, folder / "gpu", method, values)]
    return argparse.Namespace(names=names, cpu=folder / "cpu", gpu=folder / "gpu", waits=waits)


def waits_of_an_image(gpu: simulated_device.Simulation, folder: Path, method: str, values: dict) -> list[str]:
    """Those of a method's detector on a test image that is not its first."""
    life = FakeLife(folder, f"detect@{method}", values, device="auto")
    row = rows.Row(life.entry.roles)
    device = pick_device("auto", "float32")
    detector = row.detector({role: life.input(role) for role in rows.FILES}, life.params, device, Clock())
    images = ImageSet(str(folder), folder / "tables", ["test"])
    image, regions = images.image(images.ids[0]), None
    if detector.wants_proposals:
        regions = tables.boxes(ByImage(life.input("regions"), tables.PROPOSALS)[images.ids[0]])
    detector(detector.prepare(image, regions))
    with gpu.counting() as waits:
        scored = detector(detector.prepare(image, regions))
    assert len(scored.boxes)
    return waits


def test_steps_and_images_hardly_wait_for_the_gpu(runs):
    limits = {**STEP_WAITS, **IMAGE_WAITS}
    for name, waits in runs.waits.items():
        assert waits, name
        for between in waits:
            assert len(between) <= limits[name], f"{name}: {between}"
            assert len(between) > 0, f"{name}: nothing that it reads comes from the GPU"


def test_models_and_losses_are_those_of_the_cpu(runs):
    paths = sorted(path.relative_to(runs.cpu) for path in runs.cpu.rglob("*.pt") if "scratch" not in path.parts)
    assert len(paths) >= 3
    for path in paths:
        expected, made = (torch.load(root / path, weights_only=True) for root in (runs.cpu, runs.gpu))
        assert_close(made, expected, str(path))
    for path in sorted((runs.cpu / "results/plots/loss").glob("*.json")):
        made, expected = tables.read_json(runs.gpu / path.relative_to(runs.cpu)), tables.read_json(path)
        assert len(made) == len(expected) > 0
        for one, two in zip(made, expected, strict=True):
            assert one == pytest.approx(two, rel=1e-4, abs=1e-6), path


def assert_close(made: Any, expected: Any, where: str) -> None:
    """Numbers within rounding, everything else equal."""
    if isinstance(expected, dict):
        assert list(made) == list(expected), where
        for key, value in expected.items():
            assert_close(made[key], value, f"{where}: {key}")
    elif isinstance(expected, list):
        assert len(made) == len(expected), where
        for number, value in enumerate(expected):
            assert_close(made[number], value, f"{where}: {number}")
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-3, msg=lambda text: f"{where}: {text}")
    elif isinstance(expected, float):
        assert made == pytest.approx(expected, rel=1e-3), where
    else:
        assert made == expected, where


def test_tables_and_features_are_those_of_the_cpu(runs):
    paths = [path.relative_to(runs.cpu) for kind in ("*.parquet", "*.npy") for path in runs.cpu.rglob(kind)]
    paths = [path for path in paths if path.parts[0] in ("detections", "proposals", "features")]
    assert {path.parts[0] for path in paths} >= ({"proposals"} if "detect@rcnn" not in runs.names else
                                                {"proposals", "detections", "features"})
    for path in paths:
        if path.suffix == ".npy":
            np.testing.assert_allclose(np.load(runs.gpu / path), np.load(runs.cpu / path), atol=2e-2, rtol=1e-2)
        else:
            made, expected = (pd.read_parquet(root / path) for root in (runs.gpu, runs.cpu))
            if path.parts[0] == "detections":
                assert_nearly_all_are_there(made, expected, str(path))
                continue
            pd.testing.assert_frame_equal(made, expected, atol=1e-2, rtol=1e-2)


def assert_nearly_all_are_there(made: pd.DataFrame, expected: pd.DataFrame, where: str) -> None:
    """Rounding may turn NMS or a limit round for one box in twenty; the others have their partner, both ways."""
    assert len(expected) > 0, where
    columns = ["x1", "y1", "x2", "y2"]
    for table, others in ((made, expected), (expected, made)):
        pairs = table.reset_index().merge(others, on=["image_id", "class"], suffixes=("", "_other"))
        near = (pairs["score"] - pairs["score_other"]).abs() < 0.01
        for column in columns:
            near &= (pairs[column] - pairs[f"{column}_other"]).abs() < 0.5
        missing = len(table) - pairs.loc[near, "index"].nunique()
        assert missing <= len(table) / 20, f"{where}: {missing} of {len(table)} boxes have no partner"


def test_a_trained_method_runs_on_other_images(runs, tmp_path, monkeypatch):
    if "detect@faster" not in runs.names:
        pytest.skip("only the first trunk is detected with")
    pipeline.entries()  # read here, as the values are, before the current folder is another
    values = network_stages.values()
    monkeypatch.chdir(runs.gpu)
    (runs.gpu / "data").symlink_to(runs.gpu, target_is_directory=True)
    detections = []
    for device in ("cpu", "auto"):
        values["compute"] = {"device": device, "workers": 0, "launcher": "loky", "memory_gib": 1.0}
        monkeypatch.setattr(params, "load", lambda: values)
        options = argparse.Namespace(
            images=[str(runs.gpu / "images/test2.png")], method="faster", out=tmp_path / device, boxes=3,
            min_score=0.0, trace=True,
        )
        with simulated_device.installed() as gpu:
            predict.predict(options)
        assert bool(gpu.waits) == (device == "auto")
        assert (tmp_path / device / "trace.html").exists()
        detections.append(tables.read(tmp_path / device / "detections.parquet", tables.DETECTIONS))
    assert len(detections[0]) > 0
    pd.testing.assert_frame_equal(*detections, atol=1e-2, rtol=1e-2)
