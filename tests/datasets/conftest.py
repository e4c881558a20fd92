"""Small data sets on disk, as users bring them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


def write_image(path: Path, width: int = 100, height: int = 80, seed: int = 0) -> Path:
    """An image of noise in the format that the name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed + width * height).integers(0, 255, (height, width, 3), np.uint8)
    data = cv2.imencode(path.suffix, pixels)[1].tobytes()
    path.write_bytes(data)
    return path


def object_xml(name: str = "dog", corners: Sequence[object] = (11, 21, 40, 50), extra: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def annotation_xml(*objects: str, size: tuple[int, int] | None = (100, 80), filename: str = "") -> str:
    sized = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{filename}</filename>{sized}{''.join(objects)}</annotation>"


class Voc:
    """A VOC data set under `root`: images and annotations in folders of any name, split lists where wanted."""

    def __init__(self, root: Path, annotations: str = "Annotations", images: str = "JPEGImages") -> None:
        self.root = root
        self.annotations, self.images = root / annotations, root / images
        self.count = 0

    def add(
        self,
        stem: str,
        *objects: str,
        text: str | bytes | None = None,
        extension: str = ".png",
        image_size: tuple[int, int] = (100, 80),
        **annotation: Any,
    ) -> str:
        """Image and annotation; `text` replaces the annotation, which is absent if `text` is empty."""
        self.count += 1
        image = write_image(self.images / f"{stem}{extension}", *image_size, seed=self.count)
        if text is None:
            text = annotation_xml(*objects, **annotation)
        if text:
            path = self.annotations / f"{stem}.xml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return image.relative_to(self.root).as_posix()

    def lists(self, **stems: Sequence[str]) -> None:
        folder = self.annotations.parent / "ImageSets" / "Main"
        folder.mkdir(parents=True, exist_ok=True)
        for name, entries in stems.items():
            (folder / f"{name}.txt").write_text("".join(f"{entry}\n" for entry in entries))


@pytest.fixture
def voc(tmp_path: Path) -> Voc:
    return Voc(tmp_path / "set")


@pytest.fixture
def voc_at() -> type[Voc]:
    return Voc


@pytest.fixture
def obj() -> Callable[..., str]:
    return object_xml


@pytest.fixture
def annotation() -> Callable[..., str]:
    return annotation_xml


@pytest.fixture
def image_at() -> Callable[..., Path]:
    return write_image


class Coco:
    """COCO files under `root`. Every image named is written too."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(
        self,
        path: str,
        images: Sequence[dict[str, Any]],
        annotations: Sequence[dict[str, Any]],
        categories: Sequence[dict[str, Any]] = ({"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}),
        folder: str = "",
    ) -> Path:
        for number, row in enumerate(images):
            target = self.root / folder / row["file_name"]
            if not target.exists():
                write_image(target, row.get("width") or 100, row.get("height") or 80, seed=hash_of(path) + number)
        content = {"images": list(images), "annotations": list(annotations), "categories": list(categories)}
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        return file


def hash_of(text: str) -> int:
    return sum(ord(letter) * (position + 1) for position, letter in enumerate(text)) * 100


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    return Coco(tmp_path / "set")
