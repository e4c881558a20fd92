import numpy as np

from lib.boxes.boxes import clip
from lib.detectors.retinanet.detector import Detect, Detector
from lib.parallel.clock import Clock
from stages import train
from tests.detectors.dense.models import CPU
from tests.life import FakeLife
from tests.stages import network_stages


def test_the_model_of_a_stage_is_read_from_its_role(tmp_path):
    """Its anchors, layers and scale come with it: the params of the training are not asked again (case 116)."""
    network_stages.start(tmp_path, "efficientnet_lite0")
    values = network_stages.values()
    train.main(FakeLife(tmp_path, "retinanet", values))
    settings = Detect(**{**values["retinanet"]["detect"], "per_level": 5})
    detector = Detector({"model": tmp_path / "models/retinanet/detector.pt"}, settings, CPU, Clock())
    assert (detector.classes, detector.wants_proposals) == (["cat", "dog"], False)
    boxes, scores, refine, origin, _ = detector(detector.prepare(np.zeros((120, 160, 3), np.uint8)))
    levels = len(detector.head.form.grid.levels)
    assert sorted(set(origin["level"].tolist())) == list(range(levels))
    assert np.isfinite(scores).sum() == sum(min(5, 2 * count) for count in detector.head.form.grid.counts(
        detector.head.sizes(*detector.prepare(np.zeros((120, 160, 3), np.uint8)).pixels.shape[1::-1])))
    rows = np.arange(len(boxes))
    moved = clip(refine(rows, rows % 2, boxes), 160, 120)
    assert np.isfinite(moved).all()
    assert not np.array_equal(moved, boxes)
