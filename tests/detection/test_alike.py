import pandas as pd

from lib.detection.alike import alike
from lib.storage import tables


def detections(*boxes, name="a"):
    return pd.DataFrame([("i", name, *box, 0.5) for box in boxes], columns=tables.DETECTIONS.names)


BOXES = [(10, 10, 50, 50), (20, 5, 90, 95)]


def test_case_139_the_same_boxes_in_every_image():
    """In sides of the image, since that is what such a network says; the rest of a long list is not compared."""
    same = detections(*BOXES), (100, 100)
    wide = detections(*((2 * x1, y1, 2 * x2, y2) for x1, y1, x2, y2 in BOXES)), (200, 100)
    near = detections((10.5, 10, 50, 50), BOXES[1]), (100, 100)
    assert alike([same, same])
    assert alike([same, wide, near])
    filler = [(0, 0, 5, 5)] * 3
    assert alike([(detections(*BOXES, *filler, (0, 0, 9, 9)), (100, 100)), (detections(*BOXES, *filler), (100, 100))])


def test_images_that_differ():
    same = detections(*BOXES), (100, 100)
    for other in (
        detections((30, 10, 70, 50), BOXES[1]), detections(*BOXES, name="b"), detections(BOXES[0]), detections(),
    ):
        assert not alike([same, same, (other, (100, 100))])
    assert not alike([same])
    assert not alike([(detections(), (100, 100))] * 2), "no detections are no boxes"
