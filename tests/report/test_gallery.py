"""The images of the report: the best detections of each method, and images spread over the split."""

import pytest

from lib.evaluation.errors import classify
from lib.evaluation.inputs import Inputs
from lib.report import gallery
from tests.evaluation.eval_tables import random_tables


def test_gallery_takes_the_best_and_spreads_the_images():
    images, objects, detections = random_tables(3, images=9)
    inputs = Inputs.of(images, objects, detections, ["a", "b", "c"])
    for name in inputs.images:
        described = gallery.describe({"m": classify(inputs)}, name, 3)
        scores = [row[5] for row in described["detections"]["m"]]
        best = sorted(detections.loc[detections["image_id"] == name, "score"], reverse=True)[:3]
        assert scores == pytest.approx(best)
        count = (inputs.objects.image == inputs.images.index(name)).sum()
        assert len(described["objects"]) == len(described["fates"]["m"]) == count
    assert gallery.spread(inputs.images, 3) == [inputs.images[position] for position in (0, 4, 8)]
    assert gallery.spread(inputs.images, 100) == inputs.images
    assert gallery.spread([], 3) == []
