"""Case 110: each stage that reads a table of proposals refuses boxes that are not in their images, before its work."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lib.detection import rows
from lib.images.image_set import ImageSet
from lib.stage import params
from lib.stage.errors import InputError
from lib.storage import tables
from lib.training.task import Given
from stages import detect, extract
from tests.images_on_disk import write
from tests.life import FakeLife

OBJECTS = [[(10, 10, 60, 60)], [(50, 20, 110, 90)]]
BOXES = {  # of images of 160 x 120 pixels
    "right": (170, 5, 180, 20), "left": (-30, 5, -10, 20), "above": (5, -30, 20, -10), "below": (5, 121, 20, 130),
    "a pixel": (100, 100, 161, 120), "inverted": (60, 60, 20, 20), "zero area": (60, 60, 60, 70),
    "NaN": (float("nan"), 5, 20, 20),
}


def training(folder):
    images = ImageSet(str(folder), folder / "tables", ["train"])
    given = dict.fromkeys(("stage", "block", "seed", "roles", "device", "memory"))
    path, params = folder / "proposals/selective_search.parquet", {"fast.proposals_max": None}
    Given(**given, method="fast", params=params, images=images, path=lambda role: path).proposals()


STAGES = {
    "training": training,
    "extract": lambda folder: extract.main(FakeLife(folder, "extract@rcnn", params.load())),
    "detect": lambda folder: detect.main(FakeLife(folder, "detect@rcnn", params.load())),
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("box", BOXES)
def test_a_box_that_no_crop_can_be_made_of(tmp_path, monkeypatch, name, box):
    write(tmp_path, OBJECTS, test=1)
    monkeypatch.setattr(rows.Row, "detector", lambda *_: SimpleNamespace(wants_proposals=True))
    table = [(image_id, *BOXES[box], 1.0) for image_id in ("images/train0.png", "images/test1.png")]
    (tmp_path / "proposals").mkdir()
    frame = pd.DataFrame(table, columns=tables.PROPOSALS.names)
    frame.to_parquet(tmp_path / "proposals/selective_search.parquet")
    with pytest.raises(InputError, match="selective_search.parquet, row ") as error:
        STAGES[name](tmp_path)
    if box != "NaN":
        assert f"row {int(name == 'detect')} (image images/{'test1' if name == 'detect' else 'train0'}.png)" in str(
            error.value
        )
