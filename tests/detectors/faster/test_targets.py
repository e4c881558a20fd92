import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.boxes.anchors import inside
from lib.boxes.assign import NEGATIVE, POSITIVE, assign
from lib.boxes.boxes import iou
from lib.boxes.coding import decode
from lib.detectors.faster import targets as rpn_targets
from lib.detectors.faster.rpn import Anchors, ProposerGrid
from lib.detectors.faster.targets import AnchorSample, AnchorTargets, Divisors, RpnLoss, sample

PAPER = AnchorTargets(positive=0.7, negative=0.3, anchors=256, positive_share=0.5)
AUTHORS_LOSS = RpnLoss(normaliser="sampled", box_weight=1.0, sigma=3.0)
MAPS = ProposerGrid(Anchors(scales=[32.0, 64.0, 128.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0), 16)


boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(1, 30),
    st.integers(1, 30),
)


@given(
    st.lists(boxes, max_size=6), st.integers(100, 200), st.integers(100, 200), st.integers(1, 64), st.integers(0, 10)
)
def test_samples_keep_the_rules(objects, width, height, wanted, seed):
    objects = np.float32(objects).reshape(-1, 4) * 2
    settings = AnchorTargets(**{**PAPER.model_dump(), "anchors": wanted})
    anchors = MAPS.of_image(width, height)
    drawn = sample(anchors, (width, height), objects, 9, settings, np.random.default_rng(seed))
    usable = inside(anchors, width, height)
    labels = assign(anchors[usable], objects, settings.positive, settings.negative, best="ties").label
    of = dict(zip(usable.tolist(), labels.tolist(), strict=True))
    positives = min((labels == POSITIVE).sum(), wanted // 2)
    assert len(drawn.targets) == positives
    assert len(drawn.rows) == positives + min((labels == NEGATIVE).sum(), wanted - positives)
    assert len(set(drawn.rows.tolist())) == len(drawn.rows)
    assert [of[row] for row in drawn.rows.tolist()] == [1] * positives + [0] * (len(drawn.rows) - positives)
    assert drawn.positions == -(-width // 16) * -(-height // 16)
    moved = decode(anchors[drawn.rows[:positives]], drawn.targets)
    nearest = iou(anchors[drawn.rows[:positives]], objects)
    for box, overlaps in zip(moved, nearest, strict=True):
        np.testing.assert_allclose(box, objects[overlaps.argmax()], atol=1e-3)


def test_sampling_is_uniform_and_depends_on_the_generator_alone():
    anchors = MAPS.of_image(200, 200)
    draws = [
        sample(anchors, (200, 200), np.zeros((0, 4), np.float32), 9, PAPER, np.random.default_rng(s)) for s in (1, 1, 2)
    ]
    assert draws[0].rows.tolist() == draws[1].rows.tolist() != draws[2].rows.tolist()
    usable = inside(anchors, 200, 200)
    random = np.random.default_rng(0)
    few = AnchorTargets(**{**PAPER.model_dump(), "anchors": 20})
    counts = np.zeros(len(anchors))
    for _ in range(2000):
        counts[sample(anchors, (200, 200), np.zeros((0, 4), np.float32), 9, few, random).rows] += 1
    assert set(np.flatnonzero(counts)) == set(usable)
    expected = 2000 * 20 / len(usable)
    assert abs(counts[usable] - expected).max() < 6 * np.sqrt(expected)


def test_no_anchor_inside_gives_a_loss_of_exactly_zero_with_a_gradient():
    anchors = MAPS.of_image(20, 20)
    drawn = sample(anchors, (20, 20), np.float32([[2, 2, 18, 18]]), 9, PAPER, np.random.default_rng(0))
    assert len(drawn.rows) == len(drawn.targets) == 0
    logits, deltas = torch.randn(len(anchors), requires_grad=True), torch.randn(len(anchors), 4, requires_grad=True)
    found = rpn_targets.losses(logits, deltas, drawn, rpn_targets.divisors([drawn], AUTHORS_LOSS, PAPER), AUTHORS_LOSS)
    assert [value.item() for value in found.values()] == [0, 0]
    assert all(not grad.any() for grad in torch.autograd.grad(sum(found.values()), [logits, deltas]))


def test_an_image_without_objects_has_no_box_loss():
    anchors = MAPS.of_image(200, 200)
    drawn = sample(anchors, (200, 200), np.zeros((0, 4), np.float32), 9, PAPER, np.random.default_rng(0))
    found = rpn_targets.losses(
        torch.zeros(len(anchors)), torch.randn(len(anchors), 4), drawn, Divisors(256, 256), AUTHORS_LOSS
    )
    assert len(drawn.rows) == 256
    assert found["rpn_objectness"].item() == pytest.approx(np.log(2))
    assert found["rpn_boxes"].item() == 0


@pytest.mark.parametrize(
    ("loss", "objectness", "boxes"),
    [
        # Two sampled: a positive of log-odds 0, a negative of ln 3: ln 2 + ln 4. Errors 0.05 (quadratic at σ 3) and 1.
        (AUTHORS_LOSS, (np.log(2) + np.log(4)) / 2, (4.5 * 0.0025 + 1 - 1 / 18) / 2),
        (
            RpnLoss(normaliser="paper", box_weight=10.0, sigma=1.0),
            (np.log(2) + np.log(4)) / 256,
            10 * (0.5 * 0.0025 + 0.5) / 6,
        ),
    ],
)
def test_losses_by_hand(loss, objectness, boxes):
    drawn = AnchorSample(np.array([4, 1]), np.float32([[0, 0, 0.05, 0]]), positions=6)
    logits = torch.tensor([9.0, np.log(3), 9, 9, 0, 9])
    deltas = torch.zeros(6, 4)
    deltas[4, 0] = -1
    by = rpn_targets.divisors([drawn], loss, PAPER)
    found = rpn_targets.losses(logits, deltas, drawn, by, loss)
    assert found["rpn_objectness"].item() == pytest.approx(objectness, rel=1e-6)
    assert found["rpn_boxes"].item() == pytest.approx(boxes, rel=1e-6)


def test_losses_of_a_batch_are_the_sums_of_its_parts():
    random = np.random.default_rng(0)
    anchors = MAPS.of_image(200, 160)
    objects = [
        np.float32([[10, 10, 70, 80]]),
        np.zeros((0, 4), np.float32),
        np.float32([[50, 50, 120, 90], [0, 0, 30, 30]]),
    ]
    drawn = [sample(anchors, (200, 160), one, 9, PAPER, random) for one in objects]
    outputs = [(torch.randn(len(anchors)), torch.randn(len(anchors), 4)) for _ in drawn]
    by = rpn_targets.divisors(drawn, AUTHORS_LOSS, PAPER)
    parts = [rpn_targets.losses(*out, one, by, AUTHORS_LOSS) for out, one in zip(outputs, drawn, strict=True)]
    logits = torch.cat([out[0][one.rows] for out, one in zip(outputs, drawn, strict=True)])
    wanted = torch.cat([torch.arange(len(one.rows)) < len(one.targets) for one in drawn]).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
    assert sum(part["rpn_objectness"].item() for part in parts) == pytest.approx(expected.item(), rel=1e-5)
    errors = torch.cat(
        [
            out[1][one.rows[: len(one.targets)]] - torch.from_numpy(one.targets)
            for out, one in zip(outputs, drawn, strict=True)
        ]
    ).abs()
    smooth = torch.where(errors < 1 / 9, 4.5 * errors**2, errors - 1 / 18).sum() / sum(len(one.rows) for one in drawn)
    assert sum(part["rpn_boxes"].item() for part in parts) == pytest.approx(smooth.item(), rel=1e-5)


def test_gradient_of_the_losses_by_finite_differences():
    drawn = AnchorSample(np.array([2, 0, 3]), np.float32([[0.1, -0.5, 0.02, 2]]), positions=4)
    by = Divisors(3, 5)
    logits, deltas = torch.randn(4, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)

    def total(a, b):
        return float(sum(rpn_targets.losses(a, b, drawn, by, AUTHORS_LOSS).values()))

    a, b = logits.clone().requires_grad_(), deltas.clone().requires_grad_()
    sum(rpn_targets.losses(a, b, drawn, by, AUTHORS_LOSS).values()).backward()
    step = 1e-2
    for values, gradient in ((logits, a.grad), (deltas, b.grad)):
        for at in np.ndindex(*values.shape):
            value, moved = values[at].item(), []
            for sign in (1, -1):
                values[at] = value + sign * step
                moved.append(total(logits, deltas))
            values[at] = value
            assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(gradient[at].item(), abs=5e-3)
