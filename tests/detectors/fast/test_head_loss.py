import math

import pytest
import torch

from lib.detectors.fast import targets


def head_loss(logits, deltas, label, target, *settings):
    """The tested function, its rows of the foreground counted here."""
    foreground = torch.tensor([row for row in range(len(label)) if label[row] > 0], dtype=torch.int64)
    return targets.head_loss(logits, deltas, label, target, foreground, *settings)


def example(seed=0, count=7, classes=3):
    torch.manual_seed(seed)
    logits, deltas = torch.randn(count, classes + 1).double(), torch.randn(count, classes + 1, 4).double() * 2
    label = torch.randint(0, classes + 1, (count,))
    return logits, deltas, label, torch.randn(count, 4).double()


def slow(logits, deltas, label, target, total, box_loss, beta, weight):
    """Equations 1 to 3, number by number."""
    softmax = boxes = 0.0
    for row in range(len(label)):
        exponentials = [math.exp(value) for value in logits[row].tolist()]
        softmax -= math.log(exponentials[label[row]] / sum(exponentials))
        if label[row] > 0:
            for k in range(4):
                d = float(deltas[row, label[row], k] - target[row, k])
                if box_loss == "l2":
                    boxes += d * d / 2
                else:
                    boxes += d * d / (2 * beta) if abs(d) < beta else abs(d) - beta / 2
    return softmax / total, weight * boxes / total


@pytest.mark.parametrize(("box_loss", "beta"), [("smooth_l1", 1.0), ("smooth_l1", 1 / 9), ("l2", 1.0)])
def test_against_the_slow_twin(box_loss, beta):
    inputs = example()
    losses = head_loss(*inputs, 20, box_loss, beta, 3.0)
    expected = slow(*inputs, 20, box_loss, beta, 3.0)
    assert losses["classification"].item() == pytest.approx(expected[0], rel=1e-6)
    assert losses["boxes"].item() == pytest.approx(expected[1], rel=1e-6)


def test_by_hand():
    """Uniform scores of 4 classes: ln 4 each. d = 0.5, -0.5, 2, 0: 0.125 + 0.125 + 1.5 = 1.75 of the foreground row;
    nothing of the other row, whatever its deltas. Both over 128 regions."""
    logits, deltas = torch.zeros(2, 4), torch.full((2, 4, 4), 99.0)
    deltas[0, 2] = torch.tensor([0.5, -0.5, 2.0, 0.0])
    losses = head_loss(logits, deltas, torch.tensor([2, 0]), torch.zeros(2, 4), 128, "smooth_l1", 1.0, 1.0)
    assert losses["classification"].item() == pytest.approx(2 * math.log(4) / 128)
    assert losses["boxes"].item() == pytest.approx(1.75 / 128)


def test_gradient_by_finite_differences():
    logits, deltas, label, target = example(3)
    logits.requires_grad_()
    deltas.requires_grad_()
    for box_loss in ("smooth_l1", "l2"):
        loss = lambda a, b: sum(head_loss(a, b, label, target, 9, box_loss, 1.0, 2.0).values())  # noqa: B023, E731
        assert torch.autograd.gradcheck(loss, (logits, deltas))


def test_parts_add_up():
    logits, deltas, label, target = example(1, 12)
    whole = head_loss(logits, deltas, label, target, 12, "smooth_l1", 1.0, 1.0)
    parts = [
        head_loss(logits[rows], deltas[rows], label[rows], target[rows], 12, "smooth_l1", 1.0, 1.0)
        for rows in (slice(0, 5), slice(5, 5), slice(5, 12))
    ]
    for name, value in whole.items():
        assert sum(part[name] for part in parts).item() == pytest.approx(value.item(), rel=1e-6)


def test_nothing_is_exactly_zero_and_keeps_its_gradient():
    """Case 36: background alone has a box loss of exactly 0; no regions at all, both."""
    logits, deltas, label, target = example()
    deltas.requires_grad_()
    assert head_loss(logits, deltas, label * 0, target, 7, "smooth_l1", 1.0, 1.0)["boxes"].item() == 0
    none = torch.zeros(0, 4, requires_grad=True)
    losses = head_loss(none, none.unflatten(1, (1, 4)).expand(0, 4, 4), label[:0], target[:0], 0, "smooth_l1", 1.0, 1.0)
    assert [value.item() for value in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert none.grad.shape == (0, 4)


def test_without_box_loss():
    assert list(head_loss(*example(), 7, "none", 1.0, 1.0)) == ["classification"]
