import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.backbones.device import Device
from lib.boxes.anchors import inside
from lib.boxes.assign import NEGATIVE, POSITIVE, assign
from lib.boxes.boxes import iou
from lib.boxes.coding import decode
from lib.detectors.faster import targets as rpn_targets
from lib.detectors.faster.rpn import Anchors, ProposerGrid
from lib.detectors.faster.targets import AnchorSample, AnchorTargets, Divisors, RpnLoss, sample

CPU = Device(torch.device("cpu"), torch.float32)
PAPER = AnchorTargets(positive=0.7, negative=0.3, anchors=256, positive_share=0.5)
AUTHORS_LOSS = RpnLoss(normaliser="sampled", box_weight=1.0, sigma=3.0)
PAPER_LOSS = RpnLoss(normaliser="paper", box_weight=10.0, sigma=1.0)
MAPS = ProposerGrid(Anchors(scales=[32.0, 64.0, 128.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0), 16)


boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h), st.integers(0, 40), st.integers(0, 40), st.integers(1, 30),
    st.integers(1, 30),
)


@given(
    st.lists(boxes, max_size=6), st.integers(100, 200), st.integers(100, 200), st.integers(1, 64), st.integers(0, 10)
)
def test_samples_keep_the_rules(objects, width, height, wanted, seed):
    objects = np.float32(objects).reshape(-1, 4) * 2
    settings = AnchorTargets(**{**PAPER.model_dump(), "anchors": wanted})
    anchors = MAPS.of_image(width, height)
    sampled = sample(anchors, (width, height), objects, 9, settings, np.random.default_rng(seed))
    inner = inside(anchors, width, height)
    labels = assign(anchors[inner], objects, settings.positive, settings.negative, best="ties").label
    label_of = dict(zip(inner.tolist(), labels.tolist(), strict=True))
    positives = min((labels == POSITIVE).sum(), wanted // 2)
    assert len(sampled.targets) == positives
    assert len(sampled.rows) == positives + min((labels == NEGATIVE).sum(), wanted - positives)
    assert len(set(sampled.rows.tolist())) == len(sampled.rows)
    assert [label_of[row] for row in sampled.rows.tolist()] == [1] * positives + [0] * (len(sampled.rows) - positives)
    assert sampled.positions == -(-width // 16) * -(-height // 16)
    moved = decode(anchors[sampled.rows[:positives]], sampled.targets)
    nearest = iou(anchors[sampled.rows[:positives]], objects)
    for box, overlaps in zip(moved, nearest, strict=True):
        np.testing.assert_allclose(box, objects[overlaps.argmax()], atol=1e-3)


def test_sampling_is_uniform_and_depends_on_the_generator_alone():
    anchors = MAPS.of_image(200, 200)
    nothing = np.zeros((0, 4), np.float32)
    rows = [sample(anchors, (200, 200), nothing, 9, PAPER, np.random.default_rng(s)).rows.tolist() for s in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]
    inner = inside(anchors, 200, 200)
    random = np.random.default_rng(0)
    few = AnchorTargets(**{**PAPER.model_dump(), "anchors": 20})
    counts = np.zeros(len(anchors))
    for _ in range(2000):
        counts[sample(anchors, (200, 200), nothing, 9, few, random).rows] += 1
    assert set(np.flatnonzero(counts)) == set(inner)
    expected = 2000 * 20 / len(inner)
    assert abs(counts[inner] - expected).max() < 6 * np.sqrt(expected)


def test_no_anchor_inside_gives_a_loss_of_exactly_zero_with_a_gradient():
    anchors = MAPS.of_image(20, 20)
    sampled = sample(anchors, (20, 20), np.float32([[2, 2, 18, 18]]), 9, PAPER, np.random.default_rng(0))
    assert len(sampled.rows) == len(sampled.targets) == 0
    logits, deltas = torch.randn(len(anchors), requires_grad=True), torch.randn(len(anchors), 4, requires_grad=True)
    divide_by = rpn_targets.divisors([sampled], AUTHORS_LOSS, PAPER)
    losses = rpn_targets.losses(logits, deltas, sampled, divide_by, AUTHORS_LOSS, CPU)
    assert [value.item() for value in losses.values()] == [0, 0]
    assert all(not grad.any() for grad in torch.autograd.grad(sum(losses.values()), [logits, deltas]))


def test_an_image_without_objects_has_no_box_loss():
    anchors = MAPS.of_image(200, 200)
    sampled = sample(anchors, (200, 200), np.zeros((0, 4), np.float32), 9, PAPER, np.random.default_rng(0))
    losses = rpn_targets.losses(
        torch.zeros(len(anchors)), torch.randn(len(anchors), 4), sampled, Divisors(256, 256), AUTHORS_LOSS, CPU
    )
    assert len(sampled.rows) == 256
    assert losses["rpn_objectness"].item() == pytest.approx(np.log(2))
    assert losses["rpn_boxes"].item() == 0


@pytest.mark.parametrize(
    ("loss", "objectness", "boxes"),
    [
        # Two sampled: a positive of log-odds 0, a negative of ln 3: ln 2 + ln 4. Errors 0.05 (quadratic at σ 3) and 1.
        (AUTHORS_LOSS, (np.log(2) + np.log(4)) / 2, (4.5 * 0.0025 + 1 - 1 / 18) / 2),
        (PAPER_LOSS, (np.log(2) + np.log(4)) / 256, 10 * (0.5 * 0.0025 + 0.5) / 6),
    ],
)
def test_losses_by_hand(loss, objectness, boxes):
    sampled = AnchorSample(np.array([4, 1]), np.float32([[0, 0, 0.05, 0]]), positions=6)
    logits = torch.tensor([9.0, np.log(3), 9, 9, 0, 9])
    deltas = torch.zeros(6, 4)
    deltas[4, 0] = -1
    divide_by = rpn_targets.divisors([sampled], loss, PAPER)
    losses = rpn_targets.losses(logits, deltas, sampled, divide_by, loss, CPU)
    assert losses["rpn_objectness"].item() == pytest.approx(objectness, rel=1e-6)
    assert losses["rpn_boxes"].item() == pytest.approx(boxes, rel=1e-6)


def test_losses_of_a_batch_are_the_sums_of_its_parts():
    random = np.random.default_rng(0)
    anchors = MAPS.of_image(200, 160)
    objects = [[[10, 10, 70, 80]], np.zeros((0, 4)), [[50, 50, 120, 90], [0, 0, 30, 30]]]
    samples = [sample(anchors, (200, 160), np.float32(boxes), 9, PAPER, random) for boxes in objects]
    outputs = [(torch.randn(len(anchors)), torch.randn(len(anchors), 4)) for _ in samples]
    divide_by = rpn_targets.divisors(samples, AUTHORS_LOSS, PAPER)
    pairs = list(zip(outputs, samples, strict=True))
    parts = [rpn_targets.losses(*output, sampled, divide_by, AUTHORS_LOSS, CPU) for output, sampled in pairs]
    logits = torch.cat([output[0][sampled.rows] for output, sampled in pairs])
    labels = torch.cat([torch.arange(len(sampled.rows)) < len(sampled.targets) for sampled in samples]).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert sum(part["rpn_objectness"].item() for part in parts) == pytest.approx(expected.item(), rel=1e-5)
    predicted = torch.cat([output[1][sampled.rows[: len(sampled.targets)]] for output, sampled in pairs])
    errors = (predicted - torch.from_numpy(np.concatenate([sampled.targets for sampled in samples]))).abs()
    smooth = torch.where(errors < 1 / 9, 4.5 * errors**2, errors - 1 / 18).sum()
    smooth /= sum(len(sampled.rows) for sampled in samples)
    assert sum(part["rpn_boxes"].item() for part in parts) == pytest.approx(smooth.item(), rel=1e-5)


def test_gradient_of_the_losses_by_finite_differences():
    sampled = AnchorSample(np.array([2, 0, 3]), np.float32([[0.1, -0.5, 0.02, 2]]), positions=4)
    divide_by = Divisors(3, 5)
    logits, deltas = torch.randn(4, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)

    def total(a, b):
        return float(sum(rpn_targets.losses(a, b, sampled, divide_by, AUTHORS_LOSS, CPU).values()))

    a, b = logits.clone().requires_grad_(), deltas.clone().requires_grad_()
    sum(rpn_targets.losses(a, b, sampled, divide_by, AUTHORS_LOSS, CPU).values()).backward()
    step = 1e-2
    for values, gradient in ((logits, a.grad), (deltas, b.grad)):
        for index in np.ndindex(*values.shape):
            value, moved = values[index].item(), []
            for sign in (1, -1):
                values[index] = value + sign * step
                moved.append(total(logits, deltas))
            values[index] = value
            assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(gradient[index].item(), abs=5e-3)
