"""Every stage that runs a network, of all methods, on three small images: through the scripts' own `main`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib.backbones import backbones
from lib.stage import overlay
from lib.storage import tables
from stages import compress, detect, extract, fit_boxes, map_images, propose_rpn, rescore, train, train_svm
from tests.images_on_disk import SIZE, write
from tests.life import FakeLife

OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [(20, 20, 70, 100)], [(50, 20, 110, 90), (5, 40, 50, 110)]]
# A step of AdamW is about the learning rate whatever the gradient, so that rounding would show.
SGD = {"optimiser": {"name": "sgd", "momentum": 0.9}, "learning_rate": 0.001}
TRAINING = {"scale": {"short_side": [96], "max_side": 200}, "iterations": 3, "checkpoint_every": 3}
REGIONS = {"regions": 16, "fc": 16, "dropout": 0.0}
SVM = {"layer": "fc7", "checkpoint_every": 3}
CHANGES: Mapping[str, Any] = {
    "rcnn.crop": {"side": 32, "pool5_grid": 1},
    "rcnn.finetune": {**SGD, "iterations": 3, "batch": 8, "checkpoint_every": 3},
    "rcnn.svm": SVM, "spp.svm": SVM, "fast_svm.svm": SVM,
    "spp": {"scales": [96, 128]}, "spp.layers": {"levels": [1, 2], "fc": 16, "dropout": 0.0},
    "spp.pretrain": {**SGD, "iterations": 3, "sizes": [48, 32], "batch": 4, "checkpoint_every": 3},
    "spp.finetune": {**SGD, "iterations": 3, "batch": 8, "checkpoint_every": 3},
    "fast.train": {**SGD, **TRAINING, **REGIONS}, "fast_svd": {"ranks": [8, 4]},
    "faster.anchors": {"scales": [16.0, 32.0, 64.0]}, "faster.rpn": {"width": 16},
    "faster.m1": {**SGD, **TRAINING}, "faster.m2": {**SGD, **TRAINING, **REGIONS},
    "faster.m3": {**SGD, **TRAINING}, "faster.m4": {**SGD, **TRAINING, **REGIONS},
    "faster.propose.training": {"post_nms": 20, "min_size": 4.0},
    "faster.propose.test": {"post_nms": 8, "min_size": 4.0},
    "faster_joint.train": {**SGD, **TRAINING, **REGIONS},
    "yolo.grid": {"cells": 6}, "yolo.layers": {"convolutions": [{"width": 16, "stride": 1}], "groups": 4},
    "yolo.train": {**SGD, "scale": {"side": 96}, "images": 2, "iterations": 3, "checkpoint_every": 3},
    "ssd.boxes": {"sides": [12.0, 24.0, 48.0, 72.0, 96.0]},
    "ssd.train": {**SGD, "scale": {"side": 96}, "images": 2, "iterations": 3, "checkpoint_every": 3},
    "retinanet.layers": {"width": 16, "depth": 1},
    "retinanet.train": {**SGD, **TRAINING, "images": 2},
    # Three steps teach no score above the papers' limits: the best few boxes, whatever their scores.
    "yolo.detect": {"floor": 0.0}, "ssd.detect": {"floor": None, "per_level": 20},
    "retinanet.detect": {"floor": None, "per_level": 20},
}  # of params.yaml's values, each block merged into its own
TRAININGS = (
    "rcnn_finetune", "spp_pretrain", "spp_finetune", "fast", "m1", "m2", "m3", "m4", "faster_joint", "yolo", "ssd",
    "retinanet",
)
METHODS = (
    "rcnn", "spp", "fast", "fast_svd", "fast_svm", "faster", "faster_unshared", "faster_joint", "yolo", "ssd",
    "retinanet",
)
SCRIPTS = {
    "rcnn_finetune": train, "extract@rcnn": extract, "svm@rcnn": train_svm, "boxes@rcnn": fit_boxes,
    "spp_pretrain": train, "spp_maps": map_images, "spp_finetune": train, "extract@spp": extract,
    "svm@spp": train_svm, "boxes@spp": fit_boxes,
    "fast": train, "fast_svd": compress, "extract@fast_svm": extract, "svm@fast_svm": train_svm,
    "m1": train, "p1": propose_rpn, "m2": train, "m3": train, "p2": propose_rpn, "m4": train, "faster_joint": train,
    "yolo": train, "ssd": train, "retinanet": train,
    **{f"detect@{method}": detect for method in METHODS},
    "fast_yolo": rescore,
}


def values(changes: Mapping[str, Any] = CHANGES) -> dict[str, Any]:
    """The params: those of the default preset, made small, without dropout and in float32."""
    whole = overlay.values(overlay.DEFAULT)
    for key, change in changes.items():
        block = whole
        for part in key.split("."):
            block = block[part]
        block.update(change)
    return dict(_in_float32(whole))


def _in_float32(block: Any) -> Any:
    if not isinstance(block, dict):
        return block
    return {key: "float32" if key == "precision" else _in_float32(value) for key, value in block.items()}


def start(folder: Path, backbone: str) -> None:
    """The images, the table of proposals, and an M0 of random weights."""
    write(folder, OBJECTS, test=1)
    random, frames = np.random.default_rng(0), []
    for image_id in tables.read(folder / "tables/images.parquet", tables.IMAGES)["image_id"]:
        corners = random.integers(0, (SIZE[0] - 30, SIZE[1] - 30), (30, 2))
        boxes = np.hstack([corners, corners + random.integers(12, 30, (30, 2))]).astype(np.float32)
        frames.append(pd.DataFrame(boxes, columns=["x1", "y1", "x2", "y2"]).assign(image_id=image_id, score=1.0))
    table = pd.concat(frames, ignore_index=True)[tables.PROPOSALS.names]
    tables.write(folder / "proposals/selective_search.parquet", table, tables.PROPOSALS)
    torch.manual_seed(0)
    (folder / "models").mkdir()
    backbones.save_m0(folder / "models/m0.pt", backbones.build(backbone))


def run(folder: Path, device: str, whole: Mapping[str, Any]) -> None:
    """The stages in their order, on `compute.device`, with these params."""
    for name, script in SCRIPTS.items():
        script.main(FakeLife(folder, name, whole, device=device))
