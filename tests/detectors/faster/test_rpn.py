import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lib.backbones.device import Device
from lib.boxes.anchors import inside
from lib.boxes.coding import decode
from lib.detectors.faster import rpn
from lib.detectors.faster.rpn import Anchors, ProposerGrid, Proposing, RpnLayers
from lib.storage import checkpoint
from tests import simulated_device

CPU, GPU = (Device(torch.device(name), torch.float32) for name in ("cpu", "cuda"))
ANCHORS = Anchors(scales=[32.0, 64.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
TEST = Proposing(pre_nms=6000, post_nms=300, nms=0.7, min_size=16.0)


def proposals(*inputs):
    """What `propose` makes on a CPU, and the same on a simulated GPU, which decides pairs and survivors apart."""
    made = rpn.propose(*inputs, CPU)
    with simulated_device.installed():
        on_device = [value.to("cuda") if isinstance(value, torch.Tensor) else value for value in inputs]
        for ours, theirs in zip(rpn.propose(*on_device, GPU), made, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    return made


def network(score="softmax", channels=8):
    torch.manual_seed(0)
    return rpn.RPN(channels, RpnLayers(width=12, score=score), ANCHORS, 16)


PAPER = Anchors(scales=[128.0, 256.0, 512.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
# What the authors' Python returns, 0-based and inclusive; the table in its comment is one larger everywhere.
AUTHORS = [
    (-84, -40, 99, 55),
    (-176, -88, 191, 103),
    (-360, -184, 375, 199),
    (-56, -56, 71, 71),
    (-120, -120, 135, 135),
    (-248, -248, 263, 263),
    (-36, -80, 51, 95),
    (-80, -168, 95, 183),
    (-168, -344, 183, 359),
]


def test_the_authors_nine_anchors():
    np.testing.assert_array_equal(rpn.at_first_cell(PAPER) - [0, 0, 1, 1], AUTHORS)
    assert PAPER.count == 9
    assert ProposerGrid(PAPER, 16).per_cell == (9,)


@pytest.mark.parametrize(
    ("size", "total", "counts"),
    [
        ((1000, 600), 21546, 8151),
        ((800, 600), 17100, [1216, 728, 56, 1260, 748, 108, 1188, 640, 0]),
        ((400, 300), 4275, [169, 21, 0, 187, 27, 0, 152, 0, 0]),
        ((128, 128), 576, 0),
        ((300, 100), 1197, 0),
    ],
)
def test_anchors_inside_as_counted_with_the_authors_code(size, total, counts):
    anchors = ProposerGrid(PAPER, 16).of_image(*size)
    assert len(anchors) == total
    rows = inside(anchors, *size)
    if isinstance(counts, list):
        assert np.bincount(rows % 9, minlength=9).tolist() == counts
    else:
        assert len(rows) == counts


def test_nonsense_is_refused():
    for bad in ({"scales": []}, {"ratios": []}, {"base": 0.0}):
        with pytest.raises(ValidationError):
            Anchors(**{**PAPER.model_dump(), **bad})


def test_initialised_as_in_the_authors_prototxt():
    net = rpn.RPN(64, RpnLayers(width=64, score="softmax"), ANCHORS, 16)
    for layer, outputs in ((net.conv, 64), (net.scores, 12), (net.deltas, 24)):
        assert layer.out_channels == outputs
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not layer.bias.any()


@pytest.mark.parametrize("score", ["softmax", "logistic"])
def test_outputs_follow_the_order_of_the_anchors(score):
    net, maps = network(score), torch.randn(1, 8, 3, 5)
    logits, deltas = net(maps)
    hidden = torch.relu(net.conv(maps))
    raw, moves = net.scores(hidden), net.deltas(hidden)
    for y, x, a in np.ndindex(3, 5, 6):
        row = (y * 5 + x) * 6 + a
        if score == "softmax":
            pair = torch.stack([raw[0, a, y, x], raw[0, 6 + a, y, x]])
            assert torch.sigmoid(logits[row]).item() == pytest.approx(pair.softmax(0)[1].item(), abs=1e-6)
        else:
            assert logits[row] == raw[0, a, y, x]
        assert torch.equal(deltas[row], moves[0, 4 * a : 4 * a + 4, y, x])


def test_softmax_loss_of_two_scores_is_the_logistic_loss_of_their_difference():
    scores = torch.randn(50, 2)
    labels = torch.arange(50) % 2
    softmax = torch.nn.functional.cross_entropy(scores, labels)
    logistic = torch.nn.functional.binary_cross_entropy_with_logits(scores[:, 1] - scores[:, 0], labels.float())
    assert logistic.item() == pytest.approx(softmax.item(), rel=1e-6)


def test_there_and_back_through_a_file(tmp_path):
    net = network()
    checkpoint.save(tmp_path / "m.pt", {"rpn": net.describe()})
    again = rpn.restore(checkpoint.load(tmp_path / "m.pt", "rpn")["rpn"])
    maps = torch.randn(1, 8, 4, 4)
    assert all(torch.equal(a, b) for a, b in zip(net(maps), again(maps), strict=True))
    np.testing.assert_array_equal(again.anchors([(2, 2)]), net.anchors([(2, 2)]))


def slow_proposals(anchors, logits, deltas, size, factor, proposing):
    """The authors' steps one by one: decode, clip, minimum size, sort, cut, greedy NMS, cut."""
    boxes = decode(anchors, deltas)
    limits = np.float32([size[0], size[1], size[0], size[1]])
    candidates = []
    for row, box in enumerate(boxes):
        box = np.minimum(np.maximum(box, 0), limits)
        if min(box[2:] - box[:2]) >= proposing.min_size * factor and min(box[2:] - box[:2]) > 0:
            candidates.append((-float(logits[row]), row, box))
    candidates.sort(key=lambda candidate: candidate[:2])
    candidates = [(row, box) for _, row, box in candidates][: proposing.pre_nms]
    kept = []
    for row, box in candidates:
        for _, other in kept:
            inner = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
            inter = np.prod(np.maximum(inner, 0))
            union = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - inter
            if np.float32(inter / union) > np.float32(proposing.nms):
                break
        else:
            kept.append((row, box))
    return kept[: proposing.post_nms]


@settings(max_examples=40)
@given(
    st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6), st.sampled_from([None, 5, 40]),
    st.sampled_from([1, 3, 300]), st.sampled_from([0.3, 0.7]), st.sampled_from([0.0, 16.0]),
    st.sampled_from([1.0, 2.25]),
)
def test_proposals_equal_the_slow_twin(seed, high, wide, pre, post, threshold, min_size, factor):
    random = np.random.default_rng(seed)
    anchors = network().anchors([(high, wide)])
    logits = random.integers(-3, 3, len(anchors)).astype(np.float32)  # many ties
    deltas = random.normal(0, 0.3, (len(anchors), 4)).astype(np.float32)
    proposing = Proposing(pre_nms=pre, post_nms=post, nms=threshold, min_size=min_size)
    size = 16 * wide - 5, 16 * high - 3
    boxes, scores = proposals(*map(torch.from_numpy, (anchors.copy(), logits, deltas)), size, factor, proposing)
    expected = slow_proposals(anchors, logits, deltas, size, factor, proposing)
    np.testing.assert_allclose(boxes, np.float32([box for _, box in expected]).reshape(-1, 4), atol=1e-3)
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-logits[row])) for row, _ in expected], rtol=1e-5)


def test_nms_on_a_prefix_gives_what_nms_on_all_gives():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 100, (3000, 2))
    anchors = torch.from_numpy(np.hstack([corners, corners + random.uniform(80, 120, (3000, 2))]).astype(np.float32))
    logits, deltas = torch.randn(3000), torch.zeros(3000, 4)
    every = Proposing(pre_nms=None, post_nms=3000, nms=0.3, min_size=0.0)
    few = proposals(anchors, logits, deltas, (250, 250), 1.0, every.model_copy(update={"post_nms": 20}))
    many = proposals(anchors, logits, deltas, (250, 250), 1.0, every)
    assert len(few[0]) == min(20, len(many[0]))
    np.testing.assert_array_equal(few[0], many[0][:20])


def test_broken_outputs_and_small_boxes_are_dropped_and_none_may_remain():
    anchors = torch.tensor([[0.0, 0, 32, 32], [40, 0, 72, 32], [0, 40, 32, 72], [40, 40, 72, 72]])
    logits = torch.tensor([0.0, torch.nan, 1, 2])
    deltas = torch.zeros(4, 4)
    deltas[2, 0] = torch.nan
    deltas[3, 2] = -3
    boxes, scores = proposals(anchors, logits, deltas, (80, 80), 1.0, TEST)
    assert boxes.tolist() == [[0, 0, 32, 32]]
    assert scores.tolist() == [0.5]
    boxes, scores = proposals(anchors, logits, deltas, (80, 80), 3.0, TEST)
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_unusable_boxes_take_no_place_and_suppress_nobody(threshold):
    """Of three good boxes among many small ones and broken ones, all survive; at a threshold of 1 too, where the
    unusable ones do."""
    anchors = torch.tensor([[0.0, 0, 4, 4]] * 50 + [[0, 0, 32, 32], [40, 0, 72, 32], [0, 40, 32, 72], [0, 0, 32, 30]])
    logits = torch.cat([torch.full((50,), 9.0), torch.tensor([1.0, 2, 3, torch.inf])])
    settings = Proposing(pre_nms=20, post_nms=3, nms=threshold, min_size=16.0)
    boxes, scores = proposals(anchors, logits, torch.zeros(54, 4), (80, 80), 1.0, settings)
    assert boxes.tolist() == [[0, 40, 32, 72], [40, 0, 72, 32], [0, 0, 32, 32]]
    assert scores.tolist() == torch.tensor([3.0, 2, 1]).sigmoid().tolist()


def test_a_gpu_is_waited_for_once():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 100, (400, 2))
    anchors = torch.from_numpy(np.hstack([corners, corners + random.uniform(8, 40, (400, 2))]).astype(np.float32))
    logits = torch.from_numpy(random.normal(0, 1, 400).astype(np.float32))
    settings = Proposing(pre_nms=300, post_nms=20, nms=0.7, min_size=16.0)
    with simulated_device.installed() as gpu:
        on_device = [tensor.to("cuda") for tensor in (anchors, logits, torch.zeros(400, 4))]
        with gpu.counting() as waits:
            boxes, _ = rpn.propose(*on_device, (110, 90), 1.0, settings, GPU)
    assert len(boxes) == 20
    assert len(waits) == 1, waits


def test_exp_overflow_is_cut_and_clipped_to_the_image():
    deltas = torch.tensor([[0.0, 0, 89, 89]])
    boxes, _ = proposals(torch.tensor([[8.0, 8, 40, 40]]), torch.zeros(1), deltas, (100, 60), 1.0, TEST)
    assert boxes.tolist() == [[0, 0, 100, 60]]
