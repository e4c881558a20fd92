import numpy as np
import pandas as pd
import pytest

from lib.proposals import fit
from lib.proposals.cached import Found
from lib.selective_search.selective_search import search as selective_search
from lib.selective_search.settings import Settings
from lib.storage import tables
from lib.storage.by_image import ByImage
from tests.images_on_disk import image_set

CUT, SMALL, NONE = (0, 0, 40, 40), (100, 0, 110, 10), (60, 60, 100, 100)
UNLIMITED = [(0, 0, 160, 120), SMALL, (0, 60, 20, 80), CUT]  # the best first


def table(folder, boxes):
    """boxes : image_id -> rows"""
    rows = [(image_id, *box, 0.5) for image_id, found in boxes.items() for box in found]
    tables.write(folder / "p.parquet", pd.DataFrame(rows, columns=tables.PROPOSALS.names), tables.PROPOSALS)
    return ByImage(folder / "p.parquet", tables.PROPOSALS)


def searcher(boxes, asked):
    def search(ids, settings):
        assert (settings.min_box_px, settings.max_boxes) == (1, None)
        asked.extend(ids)
        for image_id in ids:
            yield Found(image_id, np.float32(boxes), np.ones(len(boxes)), 0.0)

    return search


def test_each_reason_and_the_limits_by_hand(tmp_path):
    """Without limits the small object's box, of 10 pixels, is the 2nd and that of the cut one the 4th."""
    images = image_set(tmp_path, [[CUT, SMALL, NONE]])
    settings = Settings(min_box_px=16, max_boxes=2)
    proposals = table(tmp_path, {images.ids[0]: [UNLIMITED[0], UNLIMITED[2]]})
    caution, = fit.cautions(images, proposals, settings, searcher(UNLIMITED, []))
    assert caution == (
        "100% of 3 objects for training have no proposal with an IoU of 0.5 or more. Of 3 of these, searched again "
        "without limits, 1 have boxes smaller than min_box_px (16) alone, 1 have none among the best 2 (max_boxes), "
        "1 have none at all. Set `min_box_px: 10` and `max_boxes: 100` in proposals.selective_search: then 2 of 3 have "
        "one."
    )


def test_limits_are_proposed_together(tmp_path):
    """Boxes of 10, 12 and 40 pixels, after 120 of 5: with min_box_px 10 they are the 2nd to the 4th, not the 122nd."""
    middle, tiny = (120, 0, 132, 12), [(left, 110, left + 5, 115) for left in range(120)]
    images = image_set(tmp_path, [[SMALL, middle, CUT]])
    unlimited = [UNLIMITED[0], *tiny, SMALL, middle, CUT]
    proposals = table(tmp_path, {images.ids[0]: unlimited[:1]})
    caution, = fit.cautions(images, proposals, Settings(min_box_px=16, max_boxes=1), searcher(unlimited, []))
    assert "2 have boxes smaller than min_box_px (16) alone, 1 have none among the best 1 (max_boxes)." in caution
    assert caution.endswith(
        "Set `min_box_px: 10` and `max_boxes: 100` in proposals.selective_search: then 3 of 3 have one."
    )


@pytest.mark.parametrize(("size", "small"), [({}, 1), ({"width": 320}, 0), ({"width": 80}, 1), ({"max_side": 80}, 1)])
def test_boxes_are_measured_at_the_size_searched(tmp_path, size, small):
    """10 pixels of an image of 160 are 20 where it is searched at 320, and 5 at 80."""
    images = image_set(tmp_path, [[SMALL]])
    settings = Settings(min_box_px=16, max_boxes=1, **size)
    caution, = fit.cautions(images, table(tmp_path, {images.ids[0]: UNLIMITED[:1]}), settings, searcher(UNLIMITED, []))
    assert ("smaller than min_box_px" in caution) == bool(small)
    assert ("`min_box_px: 5`" in caution) == (size in ({"width": 80}, {"max_side": 80}))


def test_a_fifth_may_be_missed(tmp_path):
    fitting = [(0, 0, 30, 30), (40, 0, 70, 30), (80, 0, 110, 30), (0, 60, 30, 90)]
    for objects, warned in (([*fitting, NONE], False), ([*fitting[1:], NONE], True)):
        folder, asked = tmp_path / str(warned), []
        images = image_set(folder, [objects, []])
        proposals = table(folder, {images.ids[0]: fitting, images.ids[1]: fitting})
        texts = fit.cautions(images, proposals, Settings(), searcher(fitting, asked))
        assert len(texts) == warned
        assert asked == images.ids[:1] * warned, "only what is missed is searched again"
    assert "Of 1 of these, searched again without limits, 1 have none at all. Set mode: quality" in texts[0]
    assert "Set ``" not in texts[0]


def test_some_images_are_searched_again(tmp_path):
    images, asked = image_set(tmp_path, [[NONE]] * 40), []
    proposals = table(tmp_path, dict.fromkeys(images.ids, UNLIMITED[:1]))
    caution, = fit.cautions(images, proposals, Settings(mode="quality"), searcher(UNLIMITED, asked))
    assert len(asked) == 16
    assert {asked[0], asked[-1]} == {images.ids[0], images.ids[-1]}
    assert "100% of 40 objects" in caution
    assert caution.endswith("Set a larger width for other regions.")


def test_without_objects_nothing_is_missed(tmp_path):
    images = image_set(tmp_path, [[]])
    assert fit.cautions(images, table(tmp_path, {images.ids[0]: UNLIMITED}), Settings(), None) == []


def test_the_limits_do_what_is_said(tmp_path):
    """By selective search itself: with the proposed limits as many of the objects have a box as it says."""
    images = image_set(tmp_path, [[(10, 10, 22, 22), (60, 30, 140, 100)], [(50, 20, 59, 29)], [(90, 90, 101, 103)]])
    settings = Settings(mode="single", min_box_px=40, max_boxes=3)

    def search(ids, unlimited):
        for image_id in ids:
            boxes, scores = selective_search(images.image(image_id), unlimited)
            yield Found(image_id, boxes, scores, 0.0)

    def proposals(with_settings):
        return table(tmp_path, {result.image_id: result.boxes for result in search(images.ids, with_settings)})

    before = proposals(settings)
    missed = {image_id: fit.best_overlaps(before.boxes(image_id), images.objects(image_id)[0])[-1] < 0.5
              for image_id in images.ids}
    caution, = fit.cautions(images, before, settings, search)
    changes = {name: int(caution.split(f"`{name}: ")[1].split("`")[0]) for name in ("min_box_px", "max_boxes")
               if f"`{name}: " in caution}
    assert changes["min_box_px"] <= 13
    after = proposals(settings.changed(**changes))
    reached = sum(
        int((fit.best_overlaps(after.boxes(image_id), images.objects(image_id)[0])[-1][low] >= 0.5).sum())
        for image_id, low in missed.items()
    )
    assert f"then {reached} of {sum(low.sum() for low in missed.values())} have one" in caution
    assert reached > 0
