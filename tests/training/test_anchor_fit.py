from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from lib.backbones.scaling import Scale
from lib.detectors.faster.rpn import Anchors, ProposerGrid
from lib.detectors.faster.train_joint import JointTraining
from lib.images.image_set import ImageSet
from lib.stage import overlay, params
from lib.storage import tables
from lib.training.anchor_fit import anchor_fit, fitting
from tests.images_on_disk import image_set

ANCHORS = Anchors(scales=[32.0, 64.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
AS_IT_IS = 120  # pixels, the shorter side of the images on disk


def fit(images, short=AS_IT_IS, stride=16, **changes):
    anchors = ProposerGrid(ANCHORS.model_copy(update=changes), stride)
    return anchor_fit(images, anchors, Scale(short_side=[short], max_side=400), 0.7, "faster", "faster.m1")


def test_anchor_fit_by_hand(tmp_path):
    # Anchor of ratio 1 and scale 64 at cell (3, 3): 24..88 both ways.
    measured = fit(image_set(tmp_path, [[(24, 24, 88, 88), (24, 24, 88, 56)]]))
    cat, dog = measured.classes
    assert cat == {"class": "cat", "objects": 1, "best_iou": 1.0, "reached": 1.0, "untouched": 0.0}
    assert 0.5 < dog["best_iou"] < 0.7
    assert dog["reached"] == 0
    assert (measured.unused, measured.cautions) == ([], [])


def test_images_too_small_for_any_anchor_are_reported(tmp_path):
    images = image_set(tmp_path, [[(10, 10, 60, 60), (80, 30, 140, 100)], [], [(50, 20, 110, 90)]])
    measured = fit(images, short=30)
    assert measured.unused == images.ids
    assert sum("scale" in caution and "untrained" in caution for caution in measured.cautions) == 2
    assert [row["untouched"] for row in measured.classes] == [1, 1]


def test_a_quarter_of_the_objects_may_overlap_their_best_anchor_by_little(tmp_path):
    """Of one class. A square of 32 at the anchors' place fits; a strip of 96 x 8 has 256 of 1536 in common at most."""
    square, strip = (24, 24, 56, 56), (24, 24, 120, 32)
    assert fit(image_set(tmp_path / "a", [[square], [square], [square], [strip]])).cautions == []
    caution, = fit(image_set(tmp_path / "b", [[square], [square], [strip]])).cautions
    assert caution.startswith("33% of 3 objects overlap their best anchor by less than 0.5. At this size")


def test_a_class_of_which_half_does_not_fit_is_named(tmp_path):
    """Cats fit; of the dogs, one in nine objects and so below a quarter, none does."""
    square, strip = (24, 24, 56, 56), (24, 24, 120, 32)
    caution, = fit(image_set(tmp_path, [[square, strip], *[[square]] * 7] * 10)).cautions
    assert caution.startswith("11% of 90 objects overlap their best anchor by less than 0.5 (100% of dog). At this ")


def test_what_is_proposed_fits_when_it_is_set(tmp_path):
    """Twice as large as the images are, objects of 80 to 200 pixels; the anchors end at 64."""
    images = image_set(tmp_path, [[(5, 5, 45, 45)], [(40, 20, 100, 80)], [(10, 10, 110, 110)], [(5, 15, 95, 115)]])
    caution, = fit(images, short=240).cautions
    assert "75% of 4 objects" in caution  # the first and the largest anchor have an IoU of 64² / 80²
    assert "measure 86 to 198 pixels" in caution  # 80, 120, 189.7 and 200: the 5th and the 95th percentile
    assert "the anchors 32 to 64" in caution
    scales = [float(scale) for scale in caution.split("`scales: [")[1].split("]")[0].split(", ")]
    assert scales[0] == 86
    assert scales[-1] == 198
    assert caution.endswith("then 0% do.")
    assert fit(images, short=240, scales=scales).cautions == []


def test_objects_under_a_cell_of_the_feature_map(tmp_path):
    """Squares of 8, 16, 16 pixels: one of three is below a cell of 16. The 5th percentile is 8.8 pixels, 16 / 8.8 of
    120 and 400 are 218.2 and 727.3."""
    boxes = [[(24, 24, 32, 32)], [(24, 24, 40, 40)], [(40, 40, 56, 56)]]
    caution, = (text for text in fit(image_set(tmp_path, boxes), scales=[8.0, 16.0]).cautions if "cell" in text)
    assert caution.startswith("33% of 3 objects are smaller than a cell of the feature map (16 x 16 pixels)")
    assert ("Set faster.m1 and the other trainings of the method to `scale: {short_side: [219], max_side: 728}`: "
            "then 33% are.") in caution
    larger = anchor_fit(
        image_set(tmp_path, boxes), ProposerGrid(ANCHORS, 16), Scale(short_side=[219], max_side=728), 0.7, "", ""
    )
    assert any("33% of 3 objects are smaller" in text for text in larger.cautions), "the smallest of three, of 8.8"
    assert not any("cell" in text for text in fit(image_set(tmp_path, boxes), short=241).cautions)


def test_without_objects_nothing_is_said_of_them(tmp_path):
    assert fit(image_set(tmp_path, [[], []])).cautions == []


def test_the_fewest_anchors_that_fit():
    now = ProposerGrid(ANCHORS.model_copy(update={"ratios": [1.0]}), 16)
    assert fitting(np.array([[50.0, 50.0], [52.0, 52.0], [48.0, 48.0]]), 1000, now).scales == [50.0]
    # Two sizes that are four times apart need two scales; one between them has an IoU of 1/4 with both.
    apart = np.repeat([[50.0, 50.0], [200.0, 200.0]], 10, axis=0)
    proposed = fitting(apart, 1000, now)
    assert (proposed.scales, proposed.ratios) == ([50.0, 200.0], [1.0])
    assert fitting(apart, 150, now).scales[-1] == 150, "no anchor that is larger than the images"
    # Tall ones, 1:3, have an IoU of .41 with a square of the same area, and of .69 with one of 98 x 196.
    proposed = fitting(np.array([[80.0, 240.0]] * 5), 1000, now)
    assert (proposed.scales, proposed.ratios) == ([139.0], [0.5, 1.0, 2.0])
    assert (proposed.settings.base, proposed.settings.centre, proposed.stride) == (ANCHORS.base, ANCHORS.centre, 16)


def test_images_are_at_most_doubled(tmp_path):
    """Squares of 2 pixels would want images eight times as large."""
    boxes = [[(24, 24, 26, 26), (40, 40, 56, 56), (60, 40, 76, 56)]]
    caution, = (text for text in fit(image_set(tmp_path, boxes), scales=[8.0, 16.0]).cautions if "cell" in text)
    assert "`scale: {short_side: [240], max_side: 800}`: then 33% are. Boxes with a side below `min_size`" in caution


def test_a_rare_class_of_another_shape_is_told_by_its_own(tmp_path):
    """Ten strips of 8 x 100 beside ninety squares that fit have an IoU of at most .2: a tenth of all objects, and all
    of their class. Nine are too few to speak of."""
    square, strip = (24, 24, 88, 88), (40, 10, 48, 110)
    for count, expected in ((10, ["Objects of dog measure 8 x 100 (medians): add a scale of 28 and a ratio of 12 to "
                                  "faster.anchors."]), (9, [])):
        images = image_set(tmp_path / str(count), [[square]] * (90 - count) + [[square, strip]] * count)
        cautions = fit(images).cautions
        assert [text.split("to 64. ")[1] for text in cautions] == expected


def test_where_nothing_fits_it_does_not_say_so(tmp_path):
    """A strip of 150 x 4 fits no anchor of the paper's ratios."""
    caution, = fit(image_set(tmp_path, [[(0, 24, 150, 28)]])).cautions
    assert caution.endswith("No other scales and ratios fit better.")


SHARED = Path("../shared/data")


def annotated(folder, root, names, only=()):
    """An `ImageSet` of VOC's annotations, whose images are never opened, without difficult objects.

    only : classes, all where empty
    """
    images, objects = [], []
    for name in names:
        tree = ElementTree.parse(root / f"Annotations/{name}.xml")
        width, height = (int(tree.findtext(f"size/{side}")) for side in ("width", "height"))
        images.append((name, "train", width, height, False, ""))
        for item in tree.iterfind("object"):
            if item.findtext("difficult") != "1" and (not only or item.findtext("name") in only):
                corners = [float(item.findtext(f"bndbox/{corner}")) for corner in ("xmin", "ymin", "xmax", "ymax")]
                objects.append((name, len(objects), item.findtext("name"), *corners, False, False, False))
    tables.write(folder / "images.parquet", pd.DataFrame(images, columns=tables.IMAGES.names), tables.IMAGES)
    tables.write(folder / "objects.parquet", pd.DataFrame(objects, columns=tables.OBJECTS.names), tables.OBJECTS)
    tables.write_json(folder / "classes.json", sorted({row[2] for row in objects}))
    return ImageSet("", folder)


def of_preset(name, images):
    """The cautions of joint training as a preset has it."""
    values = params.validate(overlay.values(name), {"faster.anchors": Anchors, "faster_joint.train": JointTraining})
    anchors, settings = values["faster.anchors"], values["faster_joint.train"]
    return anchor_fit(images, ProposerGrid(anchors, 16), settings.scale, 0.7, "faster", "faster_joint.train").cautions


@pytest.mark.skipif(not SHARED.exists(), reason="the images are not here")
def test_real_sets(tmp_path):
    """Blood cells with their preset; all classes of VOC with the paper's anchors; cats with the default's, which end at
    116 pixels."""
    bccd, voc = SHARED / "bccd", SHARED / "voc2007/VOCdevkit/VOC2007"
    cells = (bccd / "ImageSets/Main/trainval.txt").read_text().split()[::6]
    assert of_preset("bccd", annotated(tmp_path / "cells", bccd, cells)) == []
    names = sorted(path.stem for path in (voc / "Annotations").glob("*.xml"))[::12]
    every = annotated(tmp_path / "voc", voc, names)
    assert of_preset("voc2007-alexnet", every) == []
    cats = annotated(tmp_path / "cats", voc, [name for name in names if "cat" in _classes(every, name)], ["cat"])
    caution, = of_preset("default", cats)
    assert int(caution.split("%")[0]) > 75
    assert "the anchors 40 to 116. Set faster.anchors to `scales: [" in caution
    assert int(caution.split("then ")[1].split("%")[0]) < 10


def _classes(images, image_id):
    return {images.classes[label] for label in images.objects(image_id)[1]}
