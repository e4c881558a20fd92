"""`stages.draw`: a bad image is named and the pictures of the others are kept for the next run."""


import pandas as pd
import pytest

from lib.images.image_set import Splits
from lib.stage.errors import InputError
from lib.storage import tables
from stages import draw
from tests.images_on_disk import write
from tests.life import FakeLife

OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [], [(50, 20, 110, 90)]]
VALUES = {
    "pictures": draw.Pictures(images=3, proposals=2, detections=2), "splits": Splits(train=["train"], test=["test"]),
}


@pytest.fixture
def life(tmp_path):
    write(tmp_path, OBJECTS, test=3)
    ids = [f"images/test{number}.png" for number in range(3)]
    rows = pd.DataFrame([(name, 5, 5, 70, 70, 0.5) for name in ids], columns=tables.PROPOSALS.names)
    tables.write(tmp_path / "proposals/selective_search.parquet", rows, tables.PROPOSALS)
    detections = rows.assign(**{"class": "cat"})
    tables.write(tmp_path / "detections/fast.parquet", detections[tables.DETECTIONS.names], tables.DETECTIONS)
    return FakeLife(tmp_path, "draw@fast", VALUES)


def pictures(life):
    return sorted(path.name for path in (life.folder / "results/pictures/fast").glob("*"))


def test_every_image_has_its_picture(life):
    draw.main(life)
    assert pictures(life) == ["00.png", "01.png", "02.png"]


def test_a_bad_image_is_named_and_the_others_are_drawn_once(life):
    path = life.folder / "images/test1.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    with pytest.raises(InputError, match="images/test1.png: is not the file that prepare read"):
        draw.main(life)
    assert pictures(life) == ["00.png", "02.png"]
    before = {name: (life.folder / f"results/pictures/fast/{name}").stat().st_mtime_ns for name in pictures(life)}
    path.write_bytes(whole)
    draw.main(life)
    assert pictures(life) == ["00.png", "01.png", "02.png"]
    for name, time in before.items():
        assert (life.folder / f"results/pictures/fast/{name}").stat().st_mtime_ns == time
