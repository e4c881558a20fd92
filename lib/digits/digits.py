"""The default data set as a PASCAL VOC folder, made from what scikit-learn ships: no download.

VOCdevkit/DIGITS/{Annotations,JPEGImages,ImageSets/Main}; corners are 1-based and inclusive, as in VOC 2007.
"""

import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
from sklearn.datasets import load_digits, load_sample_images

from lib.digits.compose import SPLITS, Picture, compose, divide_samples
from lib.digits.recipe import Recipe

FOLDER = "DIGITS"


def make_digits(destination: Path | str, recipe: Recipe) -> None:
    """Writes the whole set to `destination` (the VOCdevkit folder), replacing what is there at the very end.

    The same recipe gives the same bytes on every processor (`lib/digits/exact.py`; the JPEG coder counts in integers
    too). Image i of a split depends on the recipe, the split
    and i alone.
    """
    destination = Path(destination)
    fresh = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    root = fresh / FOLDER
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    photos, source = load_sample_images().images, load_digits()
    samples_of_split = divide_samples(recipe, source.target)
    names = {split: [f"{split}_{index:04d}" for index in range(getattr(recipe, split))] for split in SPLITS}
    for split in SPLITS:
        for index, name in enumerate(names[split]):
            picture = compose(recipe, split, index, photos, source.images, samples_of_split[split])
            (root / "JPEGImages" / f"{name}.jpg").write_bytes(_jpeg(picture, recipe.jpeg_quality))
            text = annotation(name, picture, recipe.difficult_below)
            (root / "Annotations" / f"{name}.xml").write_bytes(text)
    for title, listed in (names | {"trainval": names["train"] + names["val"]}).items():
        lines = "".join(f"{name}\n" for name in sorted(listed))
        (root / "ImageSets" / "Main" / f"{title}.txt").write_text(lines, encoding="ascii")
    if destination.exists():
        shutil.rmtree(destination)
    os.replace(fresh, destination)


def annotation(name: str, picture: Picture, difficult_below: float) -> bytes:
    """The VOC annotation of a composed image.

    truncated : some of the digit's ink lies outside the image
    difficult : less than `difficult_below` of its ink is visible, cut and covered parts counted together
    """
    height, width = picture.image.shape[:2]
    root = ET.Element("annotation")
    _fill(root, {"folder": FOLDER, "filename": f"{name}.jpg"})
    _fill(ET.SubElement(root, "source"), {"database": "handwritten digits in photographs"})
    _fill(ET.SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    _fill(root, {"segmented": 0})
    for digit in picture.digits:
        x1, y1, x2, y2 = digit.box
        item = ET.SubElement(root, "object")
        marks = {"truncated": int(digit.truncated), "difficult": int(digit.visible < difficult_below)}
        _fill(item, {"name": digit.name, "pose": "Unspecified", **marks})
        _fill(ET.SubElement(item, "bndbox"), {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2})
    ET.indent(root, "\t")
    return ET.tostring(root, encoding="utf-8") + b"\n"


def _fill(parent: ET.Element, values: dict[str, str | int]) -> None:
    for tag, value in values.items():
        ET.SubElement(parent, tag).text = str(value)


def _jpeg(picture: Picture, quality: int) -> bytes:
    done, data = cv2.imencode(".jpg", picture.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return data.tobytes()
