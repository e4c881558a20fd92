"""`stages.rescore` on two small tables: every detection is there with its new score, and the times of both methods."""

import pandas as pd
import pytest

from lib.stage import overlay
from lib.stage.errors import InputError
from lib.storage import tables
from stages import rescore
from tests.life import FakeLife

BOX, NEAR = (0, 0, 100, 100), (0, 0, 100, 80)  # IoU 0.8
FAST = [("b.png", "cat", BOX, 0.5), ("b.png", "dog", BOX, 0.4), ("a.png", "cat", BOX, 0.5)]
YOLO = [("b.png", "cat", NEAR, 0.9), ("c.png", "cat", BOX, 0.9)]


def write(path, rows):
    frame = pd.DataFrame([(image_id, name, *box, score) for image_id, name, box, score in rows],
                         columns=tables.DETECTIONS.names)
    tables.write(path, frame, tables.DETECTIONS)


@pytest.mark.parametrize(("fast", "expected"), [
    (FAST, [("b.png", 0.5 + 0.5 * 0.72), ("b.png", 0.4), ("a.png", 0.5)]), ([], []),
])
def test_detections_and_times(tmp_path, fast, expected):
    write(tmp_path / "detections/fast.parquet", fast)
    write(tmp_path / "detections/yolo.parquet", YOLO)
    tables.write_json(tmp_path / "results/speed/fast.json", {"network": 5.0, "proposals": None, "nms": 1.0})
    tables.write_json(tmp_path / "results/speed/yolo.json", {"trunk": 2.0})
    rescore.main(FakeLife(tmp_path, "fast_yolo", overlay.values(overlay.DEFAULT)))
    made = tables.read(tmp_path / "detections/fast_yolo.parquet", tables.DETECTIONS)
    assert made["image_id"].tolist() == [name for name, _ in expected]
    assert made["score"].tolist() == pytest.approx([score for _, score in expected])
    speed = tables.read_json(tmp_path / "results/speed/fast_yolo.json")
    assert (speed["fast"], speed["yolo"]) == (6.0, 2.0)
    assert ("rescore" in speed) == bool(fast)


def test_a_method_that_was_not_timed_has_no_time(tmp_path):
    """`detect`, resumed when all images were done, writes parts without a time: their sum is none, not 0."""
    write(tmp_path / "detections/fast.parquet", FAST)
    write(tmp_path / "detections/yolo.parquet", YOLO)
    tables.write_json(tmp_path / "results/speed/fast.json", {"nms": None})
    tables.write_json(tmp_path / "results/speed/yolo.json", {"trunk": 2.0})
    rescore.main(FakeLife(tmp_path, "fast_yolo", overlay.values(overlay.DEFAULT)))
    speed = tables.read_json(tmp_path / "results/speed/fast_yolo.json")
    assert (speed["fast"], speed["yolo"]) == (None, 2.0)


@pytest.mark.parametrize("score", [1.5, -0.2])
def test_margins_of_svms_are_refused(tmp_path, score):
    """What such a score lacks to 1 is nothing that it can gain a share of: 1.5 would fall where it is confirmed."""
    write(tmp_path / "detections/fast.parquet", [("b.png", "cat", BOX, score)])
    write(tmp_path / "detections/yolo.parquet", YOLO)
    for name in ("fast", "yolo"):
        tables.write_json(tmp_path / f"results/speed/{name}.json", {"trunk": 2.0})
    with pytest.raises(InputError, match="fast_yolo: detections: have scores below 0 or above 1"):
        rescore.main(FakeLife(tmp_path, "fast_yolo", overlay.values(overlay.DEFAULT)))
    assert not (tmp_path / "detections/fast_yolo.parquet").exists()
