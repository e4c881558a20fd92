import math

import numpy as np
import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from lib.boxes.assign import IGNORED
from lib.detectors.dense.losses import Focal, HardNegatives, focal, hardest

PAPER = Focal(name="focal", alpha=0.25, gamma=2.0, prior=0.01)
THREE = HardNegatives(name="hard_negatives", ratio=3.0, least=0)
# RetinaNet's facts, §14: p, loss of a positive, loss of a negative; alpha 0.25, gamma 2.
BY_HAND = [
    (0.01, 1.1283818, 7.5377519e-07), (0.1, 0.46627348, 7.9020387e-04), (0.25, 0.19494764, 0.013485097),
    (0.5, 0.043321699, 0.12996510), (0.75, 4.4950324e-03, 0.58484293), (0.9, 2.6340129e-04, 1.3988204),
    (0.968, 8.3259371e-06, 2.4189411), (0.99, 2.5125840e-07, 3.3851455),
]


@pytest.mark.parametrize(("p", "positive", "negative"), BY_HAND)
def test_focal_loss_by_hand(p, positive, negative):
    logits = torch.full((2,), math.log(p / (1 - p)), dtype=torch.float64)
    losses = focal(logits, torch.tensor([True, False]), 0.25, 2.0)
    assert losses.tolist() == pytest.approx([positive, negative], rel=1e-6)


def test_focal_sums_gradients_and_extremes_of_the_facts():
    logits = torch.tensor([[2.0, -1.0], [0.0, -3.0], [-4.0, 1.0]])
    losses = PAPER(logits[None], torch.tensor([[1, 0, 0]]))
    assert losses.tolist() == pytest.approx([0.6738971], rel=1e-6)

    point = torch.tensor([0.3, 0.3], requires_grad=True)
    focal(point, torch.tensor([True, False]), 0.25, 2.0).sum().backward()
    assert point.grad.tolist() == pytest.approx([-0.04810211, 0.32212985], rel=1e-6)

    extreme = torch.tensor([100.0, -100.0, 200.0], requires_grad=True)
    total = focal(extreme, torch.tensor([False, True, False]), 0.25, 2.0).sum()
    total.backward()
    assert total.item() == pytest.approx(250.0)
    assert extreme.grad.tolist() == pytest.approx([0.75, -0.25, 0.75])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
def test_focal_equals_torchvision(gamma, alpha):
    random = np.random.default_rng(0)
    values, positive = random.normal(0, 4, (7, 5)), torch.from_numpy(random.random((7, 5)) < 0.3)
    ours, theirs = (torch.tensor(values, requires_grad=True) for _ in "ab")
    losses = focal(ours, positive, alpha, gamma)
    expected = sigmoid_focal_loss(theirs, positive.double(), alpha, gamma)
    torch.testing.assert_close(losses, expected)
    losses.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0])
def test_focal_gradient_is_the_difference_quotient_and_finite_where_the_loss_is_0(gamma):
    logits = torch.linspace(-9, 9, 13, dtype=torch.float64).repeat(2)
    positive = torch.arange(26) < 13
    point = logits.clone().requires_grad_()
    focal(point, positive, 0.25, gamma).sum().backward()
    ends = [focal(logits + step, positive, 0.25, gamma) for step in (1e-5, -1e-5)]
    torch.testing.assert_close(point.grad, (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-9)
    far = torch.tensor([90.0, -90.0, 500.0, -500.0], requires_grad=True)  # p_t is 1: 0 to a power below 1
    focal(far, torch.tensor([True, False, True, False]), 0.25, gamma).sum().backward()
    assert torch.isfinite(far.grad).all()


def slow_focal(scores, labels, settings):
    """Number by number, as the paper words it."""
    total = 0.0
    for row, label in zip(scores, labels, strict=True):
        for number, logit in enumerate(row, 1):
            if label == IGNORED:
                continue
            p = 1 / (1 + math.exp(-logit))
            true, alpha = (p, settings.alpha) if label == number else (1 - p, 1 - settings.alpha)
            total -= alpha * (1 - true) ** settings.gamma * math.log(true)
    return total


def test_an_anchor_is_a_negative_of_all_other_classes_and_ignored_ones_count_nothing():
    random = np.random.default_rng(1)
    scores, labels = random.normal(0, 2, (3, 40, 4)), random.integers(-1, 5, (3, 40))
    losses = PAPER(torch.from_numpy(scores), torch.from_numpy(labels))
    expected = [slow_focal(*image, PAPER) for image in zip(scores, labels, strict=True)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_first_focal_loss_of_an_image_without_objects():
    """Case 121, and the first bias of the facts: 774 anchors of 3 classes at p = 0.01."""
    assert PAPER.first_bias == pytest.approx(-4.59511985)
    scores = torch.full((1, 774, 3), PAPER.first_bias, requires_grad=True)
    loss = PAPER(scores, torch.zeros(1, 774, dtype=torch.int64))
    assert loss.tolist() == pytest.approx([0.0017503], abs=5e-8)
    loss.sum().backward()
    assert scores.grad.abs().min() > 0


# SSD's facts, §13: six default boxes, three classes with background.
LOGITS = torch.tensor([[2.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 2], [3, 0, 0], [0.5, 0, 0]])
LABELS = torch.tensor([[0, 0, 1, 0, 0, 0]])


def test_hard_negatives_of_the_facts():
    losses = [0.239545, 0.861995, 0.551445, 2.239545, 0.094923, 0.794377]
    chosen = hardest(torch.tensor([losses]), LABELS, 3.0, 0)
    assert chosen[0].nonzero()[:, 0].tolist() == [1, 3, 5]
    assert THREE(LOGITS[None], LABELS).tolist() == pytest.approx([4.447361], rel=1e-6)


def slow_hardest(losses, labels, ratio, least):
    negatives = [row for row, label in enumerate(labels) if label == 0]
    wanted = max(int(ratio * sum(label > 0 for label in labels)), least)
    return set(sorted(negatives, key=lambda row: (-losses[row], row))[:wanted])


@pytest.mark.parametrize("ratio", [0.0, 0.5, 3.0, 100.0])
@pytest.mark.parametrize("least", [0, 2])
def test_hardest_equals_the_slow_twin_with_ties_and_image_by_image(ratio, least):
    random = np.random.default_rng(2)
    losses, labels = random.integers(0, 6, (20, 30)).astype(np.float32), random.integers(-1, 3, (20, 30))
    labels[random.random((20, 30)) < 0.7] = 0
    labels[0], labels[1] = 0, 1
    chosen = hardest(torch.from_numpy(losses), torch.from_numpy(labels), ratio, least)
    for of_image, values, of_anchors in zip(chosen, losses, labels, strict=True):
        expected = slow_hardest(values.tolist(), of_anchors.tolist(), ratio, least)
        assert set(of_image.nonzero()[:, 0].tolist()) == expected


def test_softmax_gradient_is_the_difference_quotient():
    random = np.random.default_rng(3)
    values, labels = random.normal(0, 2, (2, 12, 3)), torch.from_numpy(random.integers(-1, 3, (2, 12)))
    point = torch.tensor(values, requires_grad=True)
    THREE(point, labels).sum().backward()
    for place in np.ndindex(values.shape):
        ends = []
        for step in (0.01, -0.01):
            moved = values.copy()
            moved[place] += step
            ends.append(THREE(torch.tensor(moved), labels).sum().item())
        assert point.grad[place].item() == pytest.approx((ends[0] - ends[1]) / 0.02, abs=1e-3)


def test_an_image_without_positives_has_no_hard_negatives_unless_some_are_asked_for():
    scores = LOGITS[None].clone().requires_grad_()
    none = torch.zeros(1, 6, dtype=torch.int64)
    loss = THREE(scores, none).sum()
    assert loss.item() == 0
    loss.backward()
    assert scores.grad.abs().max() == 0  # attached, and nothing learnt
    some = THREE.model_copy(update={"least": 2})
    assert some(scores, none).tolist() == pytest.approx([2.239545 + 1.551445], rel=1e-6)


def test_half_precision_is_left_before_anything_is_ranked():
    """Case: scores of bfloat16 tie, losses of them are computed in float32."""
    scores = LOGITS[None].bfloat16()
    assert THREE(scores, LABELS).dtype == PAPER(scores, LABELS).dtype == torch.float32


@pytest.mark.parametrize("change", [{"alpha": 0.5}, {"gamma": 1.0}])
def test_every_setting_of_the_focal_loss_changes_it(change):
    """Case 124; `prior` changes the first bias."""
    assert PAPER.model_copy(update=change)(LOGITS[None], LABELS) != PAPER(LOGITS[None], LABELS)
    assert PAPER.model_copy(update={"prior": 0.1}).first_bias != PAPER.first_bias
    assert THREE.model_copy(update={"ratio": 2.0})(LOGITS[None], LABELS) != THREE(LOGITS[None], LABELS)


def test_the_first_loss_with_and_without_the_prior():
    """RetinaNet's facts, §13, 2: 100,000 anchors of 80 classes, 50 positives, divided by them; counted from 100."""
    labels = torch.zeros(1, 100, dtype=torch.int64)
    for prior, gamma, expected in ((0.01, 2.0, 1.249), (0.01, 0.0, 1612.6), (0.5, 2.0, 20794), (0.5, 0.0, 110904)):
        settings = Focal(name="focal", alpha=0.25 if gamma else 0.5, gamma=gamma, prior=prior)
        negatives = settings(torch.full((1, 100, 80), settings.first_bias, dtype=torch.float64), labels).item()
        positive = focal(torch.tensor(settings.first_bias), torch.tensor(True), settings.alpha, gamma).item()
        per_output = negatives / 8000
        total = (per_output * (8e6 - 50) + 50 * positive) / 50
        assert total * (1 if gamma else 2) == pytest.approx(expected, rel=1e-3)  # half of cross-entropy at alpha 0.5
