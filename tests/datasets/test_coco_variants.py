"""COCO files as programs write them: either the table holds exactly the objects written, or the fault names what is
wrong."""

import json
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from lib.datasets.check import load
from lib.datasets.settings import DataSettings
from lib.stage.errors import InputError
from lib.storage.tables import BOX
from tests.datasets.conftest import write_image

WIDTH, HEIGHT = 60, 40
STEMS = ("caf\u00e9", "stra\u00dfe", "img_1", "\u00d1and\u00fa", "\u00c5")
CATEGORIES = ("cat", "dog")


def spellings(stem):
    """Names of one file in both normal forms, with and without capitals."""
    cases = [stem, stem.upper() if "\u00df" not in stem else stem.title()]
    names = [f"{case}{extension}" for case in cases for extension in (".png", ".PNG")]
    return [unicodedata.normalize(form, name) for name in names for form in ("NFC", "NFD")]


def same_letters(name):
    return unicodedata.normalize("NFC", name)


def distance(written, name):
    """0 the same, 1 the same letters, 2 the same but for capitals: a twin of the reader's order."""
    return 0 if written == name else 1 if same_letters(written) == same_letters(name) else 2


@st.composite
def box(draw, step=1.0):
    """x1 y1 x2 y2 inside the image, at least 2 pixels a side."""
    x1 = draw(st.integers(0, int((WIDTH - 4) / step))) * step
    y1 = draw(st.integers(0, int((HEIGHT - 4) / step))) * step
    x2 = draw(st.integers(int((x1 + 2) / step), int(WIDTH / step))) * step
    y2 = draw(st.integers(int((y1 + 2) / step), int(HEIGHT / step))) * step
    return x1, y1, x2, y2


@st.composite
def data_sets(draw):
    """(files on disk, rows of the images, rows of the annotations, what is wrong, objects by image as written)."""
    on_disk, images, rows, wrong, truth = [], [], [], set(), []
    key = draw(st.sampled_from([int, str, lambda number: 74_000_000 + number]))
    for number, stem in enumerate(draw(st.lists(st.sampled_from(STEMS), min_size=1, max_size=4, unique=True))):
        written = draw(st.sampled_from(spellings(stem)))
        names = draw(st.lists(st.sampled_from(spellings(stem)), min_size=1, max_size=3, unique=True))
        on_disk += names
        nearest = min(distance(written, name) for name in names)
        meant = [name for name in names if distance(written, name) == nearest]
        if len(meant) > 1:
            wrong.add("two images for one annotation")
        folder = draw(st.sampled_from(["", "./", ".\\", "C:\\data\\", "/home/me/", "images/"]))
        images.append({"id": key(number), "file_name": folder + written, "width": WIDTH, "height": HEIGHT})
        units = draw(st.sampled_from(["pixels"] * 8 + ["fractions", "corners"]))
        boxes = draw(st.lists(box(draw(st.sampled_from([1.0, 0.5]))), max_size=4))
        if units == "corners":
            boxes.append((WIDTH / 2, HEIGHT / 2, WIDTH - 1, HEIGHT - 1))
        if units == "fractions":
            boxes.append((6, 6, 12, 12))
        if units != "pixels" and len(meant) == 1:
            wrong.add({"fractions": "boxes in fractions", "corners": "boxes as corners"}[units])
        for x1, y1, x2, y2 in boxes:
            bbox = (x1, y1, x2, y2) if units == "corners" else (x1, y1, x2 - x1, y2 - y1)
            if units == "fractions":
                bbox = (bbox[0] / WIDTH, bbox[1] / HEIGHT, bbox[2] / WIDTH, bbox[3] / HEIGHT)
            category = draw(st.integers(0, 1))
            row = {"id": key(len(rows)), "image_id": key(number), "category_id": category, "bbox": bbox}
            rows.append(row)
            truth.append((f"images/{meant[0]}", CATEGORIES[category], (x1, y1, x2, y2)))
    return on_disk, images, rows, wrong, truth


@settings(max_examples=120, deadline=None)
@given(data_sets(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from([None, float, "\udcf1"]))
def test_exactly_what_was_written_or_what_is_wrong(data, codec, damage):
    on_disk, images, rows, wrong, truth = data
    if damage is float:
        images[0]["id"] = 1.0
        wrong = {"not an id"}
    elif damage:
        images[-1]["file_name"] = f"{damage}{images[-1]['file_name']}"
        wrong = {"name is no text"}
    elif not truth and not wrong:
        wrong = {"no objects"}
    categories = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES)]
    with TemporaryDirectory() as folder:
        first = write_image(Path(folder, "images", "first.png"), WIDTH, HEIGHT)
        for name in on_disk:
            first.with_name(name).write_bytes(first.read_bytes())
        first.unlink()
        content = {"images": images, "annotations": rows, "categories": categories}
        Path(folder, "all.json").write_bytes(json.dumps(content, ensure_ascii=bool(damage)).encode(codec))
        try:
            dataset = load(folder, DataSettings())
        except InputError as error:
            named = {fault.kind for fault in error.faults}
            message = str(error)
        else:
            named, message = set(), ""
            places = dataset.objects[["image_id", "class"]].itertuples(index=False, name=None)
            boxes = dataset.objects[BOX].to_numpy().tolist()
            seen = [(*place, tuple(box)) for place, box in zip(places, boxes, strict=True)]
    assert named == wrong
    message.encode()
    assert named or sorted(seen) == sorted(truth)
