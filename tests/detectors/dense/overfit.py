"""Eight tiny images learnt by heart, through the stages: what shapes and losses do not catch, this does."""

from pathlib import Path
from typing import Any

import numpy as np

from lib.backbones import backbones, weights
from lib.evaluation import inputs
from lib.evaluation import scores as report
from lib.images.image_set import Splits
from stages import detect, train
from tests.detectors.dense.models import PLAIN
from tests.images_on_disk import SIZE, write
from tests.life import FakeLife
from tests.stages import network_stages

OPTIMISATION = {
    "optimiser": {"name": "adamw"}, "learning_rate": 0.001, "schedule": {"name": "cosine", "warmup": 0.1},
    "images": 8, "parts": 2, "checkpoint_every": 1000,
}
STILL = {"jitter": 0.0, "mirror": 0.0, "hue": 0.0, "saturation": 1.0, "exposure": 1.0}


def squares(images: int = 8) -> list[list[tuple[int, int, int, int]]]:
    """One to three rectangles an image, of 24 to 60 pixels, that do not overlap."""
    random, made = np.random.default_rng(0), []
    for number in range(images):
        boxes: list[tuple[int, int, int, int]] = []
        for column in range(1 + number % 3):
            width, height = random.integers(24, 48, 2)
            left = 52 * column + int(random.integers(0, 52 - width + 1))
            top = int(random.integers(0, SIZE[1] - height))
            boxes.append((left, top, left + int(width), top + int(height)))
        made.append(boxes)
    return made


def mean_average_precision(folder: Path, method: str, iterations: int, **changes: Any) -> float:
    """voc10_map on the training images after so many steps from ImageNet's weights."""
    write(folder, squares())
    (folder / "models").mkdir()
    backbones.save_m0(folder / "models/m0.pt", weights.pretrained("efficientnet_lite0", "imagenet"))
    small = network_stages.CHANGES
    augment = STILL if method == "yolo" else PLAIN
    training = {**small[f"{method}.train"], **OPTIMISATION, "augment": augment, "iterations": iterations, **changes}
    values = network_stages.values({
        **small, f"{method}.train": training, f"{method}.detect": {},
        "ssd.boxes": {"sides": [16.0, 26.0, 44.0, 64.0, 90.0]}, "retinanet.anchors": {"side": 2.5}, "yolo.layers": {},
    })
    for name, script in ((method, train), (f"detect@{method}", detect)):
        life = FakeLife(folder, name, values)
        life.params["splits"] = Splits.model_construct(train=["train"], test=["train"])
        script.main(life)
    detections = folder / f"detections/{method}.parquet"
    scored = inputs.read(detections, folder / "tables/objects.parquet", ["train"])
    return float(report.metrics(report.score_inputs(scored))["voc10_map"])
