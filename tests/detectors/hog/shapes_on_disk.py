"""Grey images with bright rings and crosses, their tables, and HOG's stages on them through the scripts' own `main`."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.images.decode import content_of
from lib.stage import overlay
from lib.storage import tables
from stages import detect, fit_boxes, hog_features, hog_windows, train_svm
from tests.life import FakeLife

CLASSES = ["cross", "ring"]
SIZE = (128, 96)
SCRIPTS = {"hog_features": hog_features, "hog_windows": hog_windows, "svm@hog": train_svm, "boxes@hog": fit_boxes,
           "detect@hog": detect}


def draw(number: int) -> tuple[np.ndarray, list[tuple[str, list[int]]]]:
    """An image with one or two shapes, and their boxes; every fifth has none."""
    random = np.random.default_rng(number)
    image = random.integers(90, 110, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    objects = []
    for place in range(0 if number % 5 == 4 else 1 + number % 2):
        side = int(random.integers(30, 44))
        x, y = int(random.integers(4, 14)) + 62 * place, int(random.integers(4, SIZE[1] - side - 4))
        name = CLASSES[(number + place) % 2]
        if name == "ring":
            cv2.ellipse(image, (x + side // 2, y + side // 2), (side // 2 - 3,) * 2, 0, 0, 360, (230,) * 3, 5)
        else:
            cv2.line(image, (x + 2, y + 2), (x + side - 3, y + side - 3), (230,) * 3, 5)
            cv2.line(image, (x + 2, y + side - 3), (x + side - 3, y + 2), (230,) * 3, 5)
        objects.append((name, [x, y, x + side, y + side]))
    return image, objects


def write(folder: Path, train: int = 20, test: int = 6) -> None:
    """Images and tables, as `prepare` leaves them."""
    images, rows = [], []
    for number in range(train + test):
        image, objects = draw(number)
        image_id = f"{number:02d}.png"
        cv2.imwrite(str(folder / image_id), image)
        content = content_of((folder / image_id).read_bytes())
        images.append((image_id, "train" if number < train else "test", *SIZE, False, content))
        rows += [(image_id, k, name, *box, False, False, False) for k, (name, box) in enumerate(objects)]
    tables.write(folder / "tables/images.parquet", pd.DataFrame(images, columns=tables.IMAGES.names), tables.IMAGES)
    tables.write(folder / "tables/objects.parquet", pd.DataFrame(rows, columns=tables.OBJECTS.names), tables.OBJECTS)
    tables.write_json(folder / "tables/classes.json", CLASSES)


def values(**changes):
    """The default preset with a small pyramid. changes : of `hog`'s blocks, each merged into its own"""
    whole = overlay.values(overlay.DEFAULT)
    whole["splits"] = {"train": ["train"], "test": ["test"]}
    small = {
        "pyramid": {"octave": 3, "upscale": 2.0, "padding": 1}, "windows": {"negatives": 80, "copies": 2, "margin": 1},
        "svm": {"checkpoint_every": 3, "retrain_after": 100, "rounds": 2}, "propose": {"octave": 3},
    }
    for name in {*small, *changes}:
        whole["hog"][name] |= small.get(name, {}) | changes.get(name, {})
    return whole


def life(folder: Path, name: str, settings=None, memory_gib: float = 2.0) -> FakeLife:
    """Of one of HOG's stages."""
    return FakeLife(folder, name, settings or values(), memory_gib)


def run(folder: Path, *names: str, settings=None) -> None:
    """These stages, or all, one after the other."""
    for name in names or SCRIPTS:
        SCRIPTS[name].main(life(folder, name, settings))
