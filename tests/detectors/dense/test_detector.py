import numpy as np
import pytest
import torch

from lib.backbones.scaling import Scale, Square
from lib.boxes.boxes import clip
from lib.boxes.coding import decode
from lib.boxes.selection import Scored
from lib.detection.candidates import Candidates
from lib.detectors.dense import network as dense
from lib.detectors.dense.detector import DenseDetector, Detect, best_of_levels
from lib.detectors.retinanet.detector import Detector as RetinaDetector
from lib.detectors.retinanet.network import restore as restore_retinanet
from lib.detectors.ssd.detector import Detector as SsdDetector
from lib.detectors.ssd.network import restore as restore_ssd
from lib.evaluation.average_precision import evaluate
from lib.evaluation.inputs import Inputs
from lib.parallel.clock import Clock
from lib.stage import overlay
from lib.stage.errors import InputError
from lib.storage import checkpoint, tables
from stages import train
from tests.detectors.dense.models import CLASSES, CPU, METHODS, network_parts, settings
from tests.evaluation.eval_tables import detections_table, images_table, objects_table
from tests.life import FakeLife
from tests.stages import network_stages

RESTORE = {"ssd": restore_ssd, "retinanet": restore_retinanet}
DETECTORS = {"ssd": SsdDetector, "retinanet": RetinaDetector}
DETECT = Detect(
    per_level=None, per_image=100, per_set=None, floor=0.01, nms=0.45, nms_before=None, most=200, precision="float32",
)
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)


@pytest.fixture(scope="module", params=METHODS)
def model(request, tmp_path_factory):
    """The file of a network of lively scores, the network, and its name."""
    method = request.param
    block = settings(method)
    backbone, head = network_parts(method, block)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.03)
    path = tmp_path_factory.mktemp(method) / "model.pt"
    checkpoint.save(path, dense.contents(backbone, CLASSES, block.scale, head))
    return path, dense.DenseNetwork(backbone, head).eval(), method


def detector(model, **changes):
    return DenseDetector(model[0], RESTORE[model[2]], DETECT.model_copy(update=changes), CPU, Clock())


def plainly(model, image):
    """Anchors, probabilities and deltas of all anchors, by the network as it was trained."""
    _, network, method = model
    scale = Square(side=96) if method == "ssd" else Scale(short_side=[96], max_side=200)
    view = scale.view(image.shape[1], image.shape[0])
    with torch.no_grad():
        scores, deltas, sizes = network(dense.to_batch([view.image(image)], network.recipe, CPU))
        probabilities = network.head.form.probabilities(scores[0]).numpy()
    return view, network.head.form.grid(sizes), probabilities, deltas[0].numpy() * network.head.form.scaling


@pytest.mark.parametrize("method", METHODS)
def test_the_model_of_a_stage_is_read_from_its_role(tmp_path, method):
    """Its anchors, layers and scale come with it: the params of the training are not asked again (case 116)."""
    network_stages.start(tmp_path, "efficientnet_lite0")
    values = network_stages.values()
    train.main(FakeLife(tmp_path, method, values))
    block = Detect(**{**values[method]["detect"], "per_level": 5})
    tested = DETECTORS[method]({"model": tmp_path / f"models/{method}/detector.pt"}, block, CPU, Clock())
    assert (tested.classes, tested.wants_proposals) == (["cat", "dog"], False)
    prepared = tested.prepare(np.zeros((120, 160, 3), np.uint8))
    boxes, scores, refine, origin, _ = tested(prepared)
    grid = tested.head.form.grid
    assert sorted(set(origin["level"].tolist())) == list(range(len(grid.levels)))
    anchors = grid.counts(tested.head.sizes(*prepared.pixels.shape[1::-1]))
    assert np.isfinite(scores).sum() == sum(min(5, 2 * count) for count in anchors)
    rows = np.arange(len(boxes))
    moved = clip(refine(rows, rows % 2, boxes), 160, 120)
    assert np.isfinite(moved).all()
    assert not np.array_equal(moved, boxes)


@pytest.mark.parametrize("share", [None, 0.8])
def test_rows_are_the_anchors_above_the_floor(model, share):
    view, anchors, probabilities, deltas = plainly(model, IMAGE)
    floor = None if share is None else float(np.quantile(probabilities, share))
    tested = detector(model, floor=floor)
    boxes, scores, refine, origin, _ = tested(tested.prepare(IMAGE))
    assert tested.classes == CLASSES
    assert not tested.wants_proposals
    limit = -1.0 if floor is None else floor
    sure = np.flatnonzero((probabilities > limit + 1e-3).any(axis=1))
    assert len(boxes) >= len(sure) > 5
    assert share is None or len(boxes) < len(anchors)
    expected = view.original(anchors)
    place = np.array([np.abs(expected - box).max(axis=1).argmin() for box in boxes])
    assert (np.diff(place) > 0).all()
    assert set(sure) <= set(place)
    np.testing.assert_allclose(boxes, expected[place], atol=1e-4)
    shown = np.isfinite(scores)
    np.testing.assert_allclose(scores[shown], probabilities[place][shown], atol=1e-4)
    assert (probabilities[place][~shown] <= limit + 1e-3).all()
    levels = tested.head.form.grid.level_of(tested.head.sizes(view.width, view.height))
    np.testing.assert_array_equal(origin["level"], levels[place])
    rows = np.arange(len(boxes))
    np.testing.assert_allclose(refine(rows, rows % 2, boxes), decode(expected, deltas)[place], rtol=1e-3, atol=0.05)


def test_boxes_come_back_to_the_pixels_of_the_image():
    """Case 133: by the factors of the view, divided; 1024 to 224 here."""
    view = Square(side=224).view(1024, 1024)
    assert view.original(np.float32([[56, 56, 112, 112]])).tolist() == [[256, 256, 512, 512]]


def test_per_level_keeps_the_best_pairs_of_each_level(model):
    """Pairs of an anchor and a class: an anchor may stay with one class and lose the other."""
    _, anchors, probabilities, _ = plainly(model, IMAGE)
    tested = detector(model, floor=None, per_level=7)
    result = tested(tested.prepare(IMAGE))
    grid = tested.head.form.grid
    view = tested.prepare(IMAGE).view
    level = grid.level_of(tested.head.sizes(view.width, view.height))
    for number in range(len(grid.levels)):
        expected = np.sort(probabilities[level == number].ravel())[::-1][:7]
        kept = result.scores[result.origin["level"] == number]
        np.testing.assert_allclose(np.sort(kept[np.isfinite(kept)])[::-1], expected, atol=1e-4)


def slow_best(level, scores, most):
    kept = []
    for number in set(level):
        rows = [row for row, other in enumerate(level) if other == number]
        kept += sorted(rows, key=lambda row: (-scores[row], row))[:most]
    return sorted(kept)


@pytest.mark.parametrize("most", [1, 3, 50])
def test_best_of_levels_equals_the_slow_twin_with_ties(most):
    """Case 132: top-k 2 of three disjoint boxes is two, and ties go to the first."""
    random = np.random.default_rng(0)
    for count in (0, 1, 40):
        level, scores = random.integers(0, 3, count), random.integers(0, 5, count).astype(np.float32)
        assert best_of_levels(level, scores, most).tolist() == slow_best(level.tolist(), scores.tolist(), most)
    assert best_of_levels(np.zeros(3, np.int64), np.float32([0.9, 0.8, 0.7]), 2).tolist() == [0, 1]
    assert best_of_levels(np.zeros(3, np.int64), np.float32([0.9, 0.8, 0.7]), None).tolist() == [0, 1, 2]


def write(folder, selection, boxes, scores):
    """The detections of an image of 100 x 100 pixels."""
    candidates = Candidates(folder, CLASSES, 1, selection)
    candidates.add("a", (100, 100), Scored(np.float32(boxes), np.float32(scores)))
    candidates.write(folder / "detections.parquet")
    return tables.read(folder / "detections.parquet", tables.DETECTIONS)


def test_classes_do_not_suppress_each_other_and_no_list_is_taken_as_sorted(tmp_path):
    """Cases 130 and 131."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    detections = write(tmp_path / "a", DETECT, [[10, 10, 50, 50]], [[0.9, 0.8]])
    assert detections["class"].tolist() == ["cat", "dog"]
    assert detections["score"].tolist() == pytest.approx([0.9, 0.8])
    boxes, scores = [[0, 0, 9, 9], [20, 20, 40, 40], [60, 60, 90, 90]], [[0.9, -np.inf], [0.3, -np.inf], [-np.inf, 0.8]]
    detections = write(tmp_path / "b", DETECT.model_copy(update={"floor": 0.5}), boxes, scores)
    assert detections["score"].tolist() == pytest.approx([0.9, 0.8])


def test_a_hit_of_a_low_score_counts():
    """Case 135: a minimum score of 0.5 would hide the second hit; no method's is above 0.05."""
    images, objects = images_table("a"), objects_table(("a", "cat", (0, 0, 9, 9)), ("a", "cat", (20, 20, 40, 40)))
    hits = [("a", "cat", (0, 0, 9, 9), 0.9), ("a", "cat", (20, 20, 40, 40), 0.3)]
    for rows, expected in ((hits, 1.0), (hits[:1], 0.5)):
        inputs = Inputs.of(images, objects, detections_table(*rows), ["cat"])
        assert evaluate(inputs)[0].ap_area == expected
    for preset in overlay.names():
        values = overlay.values(preset)
        for block in ("rcnn", "fast", "fast_svm", "faster", "yolo", "ssd", "retinanet"):
            floor = values[block]["detect"]["floor"]
            assert floor is None or floor <= 0.05


def test_an_image_without_any_score_above_the_floor(model):
    tested = detector(model, floor=1.0)
    boxes, scores, refine, origin, _ = tested(tested.prepare(IMAGE))
    assert (boxes.shape, scores.shape, origin["level"].shape) == ((0, 4), (0, 2), (0,))
    none = np.zeros(0, np.int64)
    assert refine(none, none, boxes).shape == (0, 4)


@pytest.mark.parametrize(("floor", "per_level"), [(0.01, None), (None, 3)])
def test_scores_that_are_nan_are_refused_and_not_passed_over(model, floor, per_level):
    """One class alone: the other has scores above the floor, and more than a level keeps."""
    tested = detector(model, floor=floor, per_level=per_level)
    last = tested.head.scores[-1] if model[2] == "ssd" else tested.head.scores
    with torch.no_grad():
        last.bias[1] = torch.nan
    with pytest.raises(InputError, match=r"scores: \d+ of \d+ are nan"):
        tested(tested.prepare(IMAGE))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_tiny_and_thin_images(model, size):
    tested = detector(model, floor=None)
    result = tested(tested.prepare(np.zeros((*size, 3), np.uint8)))
    assert np.isfinite(result.boxes).all()
    assert len(result.boxes) > 0


def test_parts_are_timed(model):
    clock = Clock()
    tested = DenseDetector(model[0], RESTORE[model[2]], DETECT, CPU, clock)
    tested(tested.prepare(IMAGE))
    assert list(clock.seconds) == ["resize", "trunk", "head", "scores"]
