"""The default data set: what its images, boxes and lists promise."""

import dataclasses
import hashlib
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from lib.digits import digits
from lib.digits.compose import CLASSES, SPLITS, Digit, Picture, background, compose, divide_samples
from lib.digits.ink import LUMA, paint, render
from lib.digits.marks import glyph
from lib.digits.recipe import Recipe
from lib.stage.errors import InputError

RECIPE = Recipe(
    seed=1,
    train=24,
    val=6,
    test=10,
    width=320,
    height=240,
    digits_min=1,
    digits_max=5,
    size_min=24,
    size_max=96,
    rotation_deg=12,
    blur_px=0.8,
    contrast=90,
    cut=0.15,
    overlap=0.15,
    touching=0.0,
    letters_max=0,
    scribbles_max=0,
    visible_min=0.5,
    difficult_below=0.7,
    background_split=0.6,
    crop_min=0.5,
    jpeg_quality=95,
)

CLUTTERED = dataclasses.replace(RECIPE, touching=0.3, letters_max=4, scribbles_max=3)


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "VOCdevkit"
    digits.make_digits(folder, RECIPE)
    return folder


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[Picture]]:
    source, photos = load_digits(), load_sample_images().images
    samples_of_split = divide_samples(RECIPE, source.target)
    return {
        split: [
            compose(RECIPE, split, index, photos, source.images, samples_of_split[split])
            for index in range(getattr(RECIPE, split))
        ]
        for split in SPLITS
    }


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_other_ones(made: Path, tmp_path: Path) -> None:
    digits.make_digits(tmp_path / "again", RECIPE)
    digits.make_digits(tmp_path / "other", dataclasses.replace(RECIPE, seed=2))
    first = contents(made)
    assert contents(tmp_path / "again") == first
    other = contents(tmp_path / "other")
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first if name.endswith(".jpg"))


def test_an_old_set_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "VOCdevkit"
    (target / "DIGITS").mkdir(parents=True)
    (target / "DIGITS" / "stale.txt").touch()
    digits.make_digits(target, dataclasses.replace(RECIPE, train=2, val=1, test=1))
    assert not (target / "DIGITS" / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["VOCdevkit"]


def test_lists_are_disjoint_and_name_every_file_once(made: Path) -> None:
    root = made / "DIGITS"
    lists = {path.stem: path.read_text().split() for path in (root / "ImageSets/Main").iterdir()}
    assert {name: len(names) for name, names in lists.items()} == {"train": 24, "val": 6, "trainval": 30, "test": 10}
    assert lists["trainval"] == sorted(lists["train"] + lists["val"])
    every = sorted(lists["trainval"] + lists["test"])
    assert len(set(every)) == 40
    assert sorted(path.stem for path in (root / "Annotations").iterdir()) == every
    assert sorted(path.name for path in (root / "JPEGImages").iterdir()) == [f"{name}.jpg" for name in every]


def test_annotations_are_voc_and_fit_their_images(made: Path) -> None:
    for path in (made / "DIGITS/Annotations").iterdir():
        root = ET.fromstring(path.read_bytes())
        image = cv2.imread(str(made / "DIGITS/JPEGImages" / (root.findtext("filename") or "")))
        height, width = image.shape[:2]
        assert (width, height) == (320, 240) == (int(root.findtext("size/width")), int(root.findtext("size/height")))
        objects = root.findall("object")
        assert 1 <= len(objects) <= 5
        for item in objects:
            assert item.findtext("name") in CLASSES
            assert {item.findtext("truncated"), item.findtext("difficult")} <= {"0", "1"}
            x1, y1, x2, y2 = (int(item.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= x1 < x2 <= width
            assert 1 <= y1 < y2 <= height


def test_annotation_by_hand() -> None:
    """Half-open 0-based 10 20 30 50 is 11 21 30 50 in VOC; .69 of the ink is too little for .7, .7 is not."""
    image = np.zeros((60, 80, 3), np.uint8)
    picture = Picture(
        image, [Digit(0, "four", (10, 20, 30, 50), 0.69, True), Digit(1, "six", (0, 0, 80, 60), 0.7, False)]
    )
    first, second = ET.fromstring(digits.annotation("x", picture, 0.7)).findall("object")
    assert [node.text for node in first.find("bndbox")] == ["11", "21", "30", "50"]
    assert [node.text for node in second.find("bndbox")] == ["1", "1", "80", "60"]
    assert [first.findtext(k) for k in ("name", "truncated", "difficult")] == ["four", "1", "1"]
    assert [second.findtext(k) for k in ("name", "truncated", "difficult")] == ["six", "0", "0"]


def test_no_sample_is_shared_between_splits(pictures: dict[str, list[Picture]]) -> None:
    source = load_digits()
    samples_of_split = divide_samples(RECIPE, source.target)
    members = {split: np.concatenate(samples_of_split[split]) for split in SPLITS}
    assert sorted(np.concatenate(list(members.values()))) == list(range(1797))
    for split in SPLITS:
        used = [digit for picture in pictures[split] for digit in picture.digits]
        assert {digit.sample for digit in used} <= set(members[split])
        assert all(CLASSES[source.target[digit.sample]] == digit.name for digit in used)
    looks = {split: {source.images[i].tobytes() for i in members[split]} for split in SPLITS}
    assert not looks["train"] & looks["test"]
    assert not looks["val"] & looks["test"]
    assert len(members["test"]) == pytest.approx(1797 / 4, abs=10)  # 10 of 40 images


def test_backgrounds_of_test_come_from_another_part() -> None:
    """On a photograph whose columns are numbered, a crop shows which columns it was cut from."""
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 150, axis=0).repeat(3, axis=2)
    recipe = dataclasses.replace(RECIPE, width=80, height=60, size_max=30)
    for index in range(30):
        rng = np.random.default_rng(index)
        assert background(ramp, recipe, "train", rng).max() < 120
        assert background(ramp, recipe, "val", rng).max() < 120
        assert background(ramp, recipe, "test", rng).min() >= 119  # 120 less the overshoot of cubic enlargement


def test_boxes_are_tight_around_what_was_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brute force: black background, all ink white; alone, a digit's box bounds the pixels brighter than half."""
    recipe = dataclasses.replace(RECIPE, digits_min=1, digits_max=1, cut=0.4, overlap=0)
    source = load_digits()
    samples, black = divide_samples(recipe, source.target)["train"], np.zeros((427, 640, 3), np.uint8)
    cut = 0
    for index in range(40):
        picture = compose(recipe, "train", index, [black], source.images, samples)
        grey = picture.image.max(axis=2)
        rows, columns = np.nonzero(grey > grey.max() * 0.5)
        (digit,) = picture.digits
        tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.subtract(digit.box, tight)).max() <= 1  # rounding of colours at the edge
        touches = digit.box[0] == 0 or digit.box[1] == 0 or digit.box[2] == 320 or digit.box[3] == 240
        assert touches or not digit.truncated
        cut += digit.truncated
    assert 8 <= cut <= 26  # 16 expected


def test_marks_follow_what_is_seen(pictures: dict[str, list[Picture]]) -> None:
    every = [digit for split in SPLITS for picture in pictures[split] for digit in picture.digits]
    assert all(RECIPE.visible_min <= digit.visible <= 1 for digit in every)
    assert all(digit.visible < 1 for digit in every if digit.truncated)
    assert any(digit.visible < 1 and not digit.truncated for digit in every)  # covered
    assert any(digit.truncated for digit in every)
    assert any(digit.visible < RECIPE.difficult_below for digit in every)
    plain = [digit for digit in every if digit.visible == 1]
    assert len(plain) > len(every) / 2
    assert {max(d.box[2] - d.box[0], d.box[3] - d.box[1]) >= 20 for d in plain} == {True}


def test_uncovered_digits_stand_apart() -> None:
    recipe = dataclasses.replace(RECIPE, overlap=0, digits_min=5)
    source = load_digits()
    photos, samples_of_class = load_sample_images().images, divide_samples(recipe, source.target)["train"]
    for index in range(10):
        picture = compose(recipe, "train", index, photos, source.images, samples_of_class)
        for i, a in enumerate(picture.digits):
            for b in picture.digits[:i]:
                left, top, right, bottom = np.subtract(a.box[:2] + b.box[:2], b.box[2:] + a.box[2:])
                assert max(left, top, right, bottom) >= 0


def test_a_rendered_digit_has_its_size_its_holes_and_sharp_edges() -> None:
    images, labels = load_digits(return_X_y=True)
    for number, holes in ((0, 1), (1, 0), (6, 1), (7, 0)):
        hole_counts = []
        for sample in images[labels == number][:40]:
            mask = render(sample.reshape(8, 8), 60, 0, 0)
            ink = (mask > 0.5).astype(np.uint8)
            rows, columns = np.nonzero(ink)
            assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(60, abs=2)
            _, tree = cv2.findContours(np.pad(ink, 1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            hole_counts.append(int((tree[0][:, 3] >= 0).sum()))
            edge = ((mask > 0.02) & (mask < 0.98)).sum()
            outline = cv2.morphologyEx(ink, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).sum()
            assert edge < outline  # the gradient is two pixels wide, a soft edge would be wider
        assert np.mean(np.array(hole_counts) == holes) > 0.7


def test_contrast_is_kept_against_every_background() -> None:
    """On each grey background the painted colour's luma is at least 90 levels away; 127 is the hardest."""
    alpha = np.zeros((60, 60))
    alpha[20:40, 20:40] = 1
    for grey in (0, 60, 127, 128, 190, 255):
        for seed in range(5):
            image = paint(np.full((60, 60, 3), grey, np.uint8), alpha, 90, np.random.default_rng(seed))
            assert abs(float(image[30, 30] @ LUMA) / 1000 - grey) >= 90
            assert (image[:15] == grey).all()


def test_contrast_in_the_written_jpegs(made: Path, pictures: dict[str, list[Picture]]) -> None:
    """The ink of digits that are wholly seen, against the mean of the band around their boxes."""
    distances = []
    for split in SPLITS:
        for index, picture in enumerate(pictures[split]):
            jpeg = cv2.imread(str(made / f"DIGITS/JPEGImages/{split}_{index:04d}.jpg"))[:, :, ::-1] @ LUMA / 1000
            exact = picture.image @ LUMA / 1000
            assert np.abs(jpeg - exact).mean() < 4
            if len(picture.digits) == 1 and picture.digits[0].visible == 1:
                x1, y1, x2, y2 = picture.digits[0].box
                inside = jpeg[y1:y2, x1:x2]
                band = jpeg[max(y1 - 5, 0) : y2 + 5, max(x1 - 5, 0) : x2 + 5]
                mean = (band.sum() - inside.sum()) / (band.size - inside.size)
                distances.append(np.quantile(np.abs(inside - mean), 0.8))
    assert len(distances) >= 4
    assert np.median(distances) >= 80


def test_impossible_recipes_are_refused_all_at_once() -> None:
    with pytest.raises(InputError) as error:
        dataclasses.replace(RECIPE, digits_min=6, size_max=121)
    text = str(error.value)
    assert "digits.digits_min: is 6. Allowed: at most digits.digits_max, which is 5" in text
    assert "digits.size_max: is 121" in text


def test_letters_and_scribbles_are_no_objects_and_move_no_digit() -> None:
    """Without room to push one another away, an image has the same digits with and without them, and other pixels."""
    plain = dataclasses.replace(RECIPE, digits_min=1, digits_max=1, overlap=0.0)
    source, photos = load_digits(), load_sample_images().images
    samples = divide_samples(plain, source.target)["train"]
    changed = 0
    for index in range(6):
        alone, among = (
            compose(recipe, "train", index, photos, source.images, samples)
            for recipe in (plain, dataclasses.replace(plain, letters_max=3, scribbles_max=3))
        )
        assert [digit.sample for digit in alone.digits] == [digit.sample for digit in among.digits]
        assert len(among.digits) == 1
        changed += bool((alone.image != among.image).any())
    assert changed >= 4  # each is left out in one of four


def test_touching_digits_touch() -> None:
    recipe = dataclasses.replace(RECIPE, digits_min=4, digits_max=4, cut=0.0, overlap=0.0, touching=1.0, size_max=48)
    source, photos = load_digits(), load_sample_images().images
    samples, gaps = divide_samples(recipe, source.target)["train"], []
    for index in range(6):
        for number, digit in enumerate(boxes := [d.box for d in compose(
            recipe, "train", index, photos, source.images, samples
        ).digits]):
            if number:
                gaps.append(min(abs(digit[0] - other[2]) if digit[0] >= other[0] else abs(other[0] - digit[2])
                                for other in boxes[:number]))
    assert np.mean(np.array(gaps) <= 4) > 0.8  # two pixels of gap, two between ink and the mask's edge


def test_shares_of_places_add_up_to_one_at_most() -> None:
    with pytest.raises(InputError, match="digits.touching: is 0.8. Allowed: at most 1 with"):
        dataclasses.replace(RECIPE, touching=0.8)


def test_glyphs_look_like_samples() -> None:
    for seed in range(30):
        sample = glyph(np.random.default_rng(seed))
        assert (sample.shape, sample.min() >= 0, sample.max() <= 16) == ((8, 8), True, True)
        assert 5 <= np.count_nonzero(sample) <= 60
