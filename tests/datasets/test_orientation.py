"""The size of an image: the decoded one counts, and the annotation's tells whether EXIF is applied."""

import io

import pytest
from PIL import Image as Pillow

from lib.images.decode import read_image
from tests.datasets.loading import boxes_of, lenient, noted, refused, strict


@pytest.mark.parametrize("size", [None, (0, 0)])
def test_case_12_missing_size_is_filled(voc, obj, size):
    voc.add("1", obj(), size=size)
    dataset = strict(voc.root)
    assert dataset.images[["width", "height"]].to_numpy().tolist() == [[100, 80]]
    assert noted(dataset) == ["size missing or 0 in the annotation"]


@pytest.mark.parametrize("size", [(98, 80), (80, 100)])
def test_case_12_the_image_is_the_authority(voc, obj, size):
    voc.add("1", obj(corners=(1, 1, 100, 80)), size=size)
    kinds, message = refused(voc.root)
    assert kinds == ["size differs from the image"]
    assert f"the size is given as {size[0]}x{size[1]}" in message
    assert ("width and height are swapped" in message) == (size == (80, 100))
    dataset = lenient(voc.root)
    assert dataset.images[["width", "height"]].to_numpy().tolist() == [[100, 80]]
    assert boxes_of(dataset) == [[0, 0, 100, 80]]


def phone_photo(path, size=(60, 40), orientation=6):
    exif = Pillow.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    Pillow.new("RGB", size, "red").save(buffer, "JPEG", exif=exif)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("orientation", "declared", "transpose", "size"),
    [
        (6, (40, 60), True, (40, 60)),
        (6, (60, 40), False, (60, 40)),
        (6, None, True, (40, 60)),
        (8, (40, 60), True, (40, 60)),
        (3, (60, 40), True, (60, 40)),
        (1, (60, 40), False, (60, 40)),
    ],
)
def test_case_13_the_size_decides(voc, obj, orientation, declared, transpose, size):
    image = voc.add("1", obj(corners=(1, 1, *size)), extension=".jpg", size=declared)
    phone_photo(voc.root / image, orientation=orientation)
    dataset = strict(voc.root)
    row = dataset.images.iloc[0]
    assert (row["transpose"], row["width"], row["height"]) == (transpose, *size)
    assert boxes_of(dataset) == [[0, 0, *size]]
    assert read_image(voc.root, image, bool(row["transpose"])).shape == (size[1], size[0], 3)
    assert ("orientation not told by the size" in noted(dataset)) == (declared is None or orientation == 3)


def test_a_mirrored_image_of_wrong_size_is_used_in_lenient_mode(voc, obj):
    image = voc.add("1", obj(corners=(1, 1, 60, 40)), extension=".jpg", size=(61, 40))
    phone_photo(voc.root / image, orientation=2)
    assert refused(voc.root)[0] == ["size differs from the image"]
    assert boxes_of(lenient(voc.root)) == [[0, 0, 60, 40]]


def test_case_13_neither(voc, obj):
    voc.add("0", obj())
    phone_photo(voc.root / voc.add("1", obj(), extension=".jpg", size=(61, 40)))
    kinds, message = refused(voc.root)
    assert kinds == ["size fits neither orientation"]
    assert "61x40" in message
    assert "60x40 (as stored) or 40x60 (turned)" in message
    assert lenient(voc.root).images["image_id"].tolist() == ["JPEGImages/0.png"]


def test_an_annotation_that_cannot_be_read_is_not_missing_its_size_too(voc, obj):
    """One fault is counted once."""
    voc.add("1", obj())
    voc.add("2", obj())
    file = next(voc.root.rglob("2.xml"))
    file.write_text(file.read_text().replace("</annotation>", ""))
    dataset = lenient(voc.root)
    assert dataset.images["image_id"].str.contains("1").all()
    assert noted(dataset) == []
