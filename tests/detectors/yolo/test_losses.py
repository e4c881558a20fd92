import numpy as np
import pytest
import torch

from lib.detectors.yolo.losses import YoloLoss, centred_iou, responsible
from lib.detectors.yolo.network import Cells

LOSS = YoloLoss(coordinates=5.0, no_object=0.5, confidence="iou")


def worked_cell():
    """Facts §12: S 2, B 2, C 2; the object in cell 1, of class 1."""
    confidences = torch.tensor([[[0.1, 0], [0.5, 0.3], [0.2, 0.1], [0, 0.05]]])
    boxes, classes = torch.zeros(1, 4, 2, 4), torch.zeros(1, 4, 2)
    boxes[0, 1] = torch.tensor([[0.3, 0.5, 0.5, 0.5], [0.2, 0.6, 0.7, 0.4]])
    classes[0, 1] = torch.tensor([0.3, 0.6])
    truth = torch.tensor([1]), torch.tensor([1]), torch.tensor([[0.2, 0.6, 0.4, 0.2]])
    return Cells(classes, confidences, boxes), truth


def test_the_worked_cell_of_the_facts():
    outputs, truth = worked_cell()
    answering, overlap = responsible(outputs.boxes[0, [1]], truth[2], 2)
    assert (answering.item(), overlap.item()) == (1, pytest.approx(0.6779661, abs=1e-6))
    _, of_first = responsible(outputs.boxes[0, [1], :1], truth[2], 2)
    assert of_first.item() == pytest.approx(0.4430380, abs=1e-6)
    sums = {name: 2 * value.item() for name, value in LOSS(outputs, *truth).items()}
    expected = {"centres": 0, "sides": 0.033957, "confidence": 0.142858, "no_object": 0.15625, "classification": 0.25}
    assert sums == pytest.approx(expected, abs=1e-6)
    assert sum(sums.values()) / 2 == pytest.approx(0.2915325, abs=1e-6)


def test_a_confidence_of_one_in_place_of_the_iou():
    outputs, truth = worked_cell()
    sums = LOSS.model_copy(update={"confidence": "one"})(outputs, *truth)
    assert 2 * sum(sums.values()).item() == pytest.approx(0.930207, abs=1e-6)


def test_the_gradient_is_darknets():
    """Its entries are weight times error, without the 2 of a square; their squares sum to its printed cost."""
    outputs, truth = worked_cell()
    values = [value.clone().requires_grad_() for value in outputs]
    grads = torch.autograd.grad(sum(LOSS(Cells(*values), *truth).values()), values)
    assert sum(grad.square().sum().item() for grad in grads) == pytest.approx(0.640768, abs=1e-6)
    assert grads[1][0, 1].tolist() == pytest.approx([0.25, 0.3 - 0.6779661])
    assert grads[0][0, 1].tolist() == pytest.approx([0.3, -0.4])


def test_outputs_of_zero():
    """Facts §12: no area, so the nearest box answers, the first of equals; 2 + 3 + 0 + 0 + 1."""
    outputs, truth = worked_cell()
    zero = Cells(*(torch.zeros_like(value).requires_grad_() for value in outputs))
    sums = LOSS(zero, *truth)
    assert [2 * value.item() for value in sums.values()] == pytest.approx([2, 3, 0, 0, 1])
    grads = torch.autograd.grad(sum(sums.values()), zero)
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert grads[2][0, 1, 0].any()
    assert not grads[2][0, 1, 1].any()


def slow_iou(first, second):
    corners = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (first, second)]
    width = max(min(corners[0][2], corners[1][2]) - max(corners[0][0], corners[1][0]), 0)
    height = max(min(corners[0][3], corners[1][3]) - max(corners[0][1], corners[1][1]), 0)
    union = first[2] * first[3] + second[2] * second[3] - width * height
    return width * height / union if union > 0 else 0.0


def slow_responsible(predicted, truth, cells):
    """detection_layer.c, with its strict comparisons."""
    best, best_iou, best_distance = 0, 0.0, 20.0
    theirs = truth[0] / cells, truth[1] / cells, truth[2], truth[3]
    for j, (x, y, w, h) in enumerate(predicted):
        ours = x / cells, y / cells, w * w, h * h
        overlap = slow_iou(ours, theirs)
        distance = sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) ** 0.5
        if best_iou > 0 or overlap > 0:
            if overlap > best_iou:
                best, best_iou = j, overlap
        elif distance < best_distance:
            best, best_distance = j, distance
    return best, best_iou


def slow_loss(outputs, rows, labels, boxes, loss):
    """Equation 3, cell by cell and box by box; the five sums."""
    classes, confidences, predicted = (value.numpy().astype(float) for value in outputs)
    images, count, per_cell = confidences.shape
    cells, sums = round(count**0.5), dict.fromkeys(
        ("centres", "sides", "confidence", "no_object", "classification"), 0.0)
    objects = {int(row): (int(label), box) for row, label, box in zip(rows, labels, boxes.tolist(), strict=True)}
    for image in range(images):
        for cell in range(count):
            answering = None
            if (place := image * count + cell) in objects:
                label, box = objects[place]
                answering, overlap = slow_responsible(predicted[image, cell], box, cells)
                x, y, w, h = predicted[image, cell, answering]
                sums["centres"] += loss.coordinates * ((x - box[0]) ** 2 + (y - box[1]) ** 2)
                sums["sides"] += loss.coordinates * ((w - box[2] ** 0.5) ** 2 + (h - box[3] ** 0.5) ** 2)
                wanted = overlap if loss.confidence == "iou" else 1
                sums["confidence"] += (confidences[image, cell, answering] - wanted) ** 2
                for number, value in enumerate(classes[image, cell]):
                    sums["classification"] += (value - (number == label)) ** 2
            for j in range(per_cell):
                if j != answering:
                    sums["no_object"] += loss.no_object * confidences[image, cell, j] ** 2
    return {name: value / 2 for name, value in sums.items()}


def drawn(seed, images=3, cells=3, per_cell=3, classes=4, objects=8):
    torch.manual_seed(seed)
    outputs = Cells(
        torch.randn(images, cells**2, classes), torch.randn(images, cells**2, per_cell),
        torch.randn(images, cells**2, per_cell, 4) * 0.6,
    )
    rows = torch.randperm(images * cells**2)[:objects].sort().values
    return outputs, (rows, torch.randint(0, classes, (objects,)), torch.rand(objects, 4) * 0.9 + 0.05)


@pytest.mark.parametrize("confidence", ["iou", "one"])
@pytest.mark.parametrize("objects", [8, 0])
def test_equals_the_slow_twin(confidence, objects):
    loss = YoloLoss(coordinates=3.0, no_object=0.25, confidence=confidence)
    kinds = set()
    for seed in range(10):
        outputs, truth = drawn(seed, objects=objects)
        made = {name: value.item() for name, value in loss(outputs, *truth).items()}
        assert made == pytest.approx(slow_loss(outputs, *truth, loss), rel=1e-4)
        _, overlap = responsible(outputs.boxes.flatten(0, 1)[truth[0]], truth[2], 3)
        kinds |= set((overlap > 0).tolist())
    assert kinds == ({True, False} if objects else set()), "both rules are needed here"


def test_ties_go_to_the_first_box():
    box = torch.tensor([0.2, 0.6, 0.6, 0.5])
    far = torch.tensor([5.0, 5.0, 0.1, 0.1])
    truth = torch.tensor([[0.2, 0.6, 0.4, 0.2]])
    for boxes, expected in (([box, box], 0), ([far, box, box], 1), ([far, far], 0), ([far, far / 2], 1)):
        assert responsible(torch.stack(boxes)[None], truth, 2)[0].item() == expected


def test_case_136_iou_in_sides_of_the_image():
    """Centres in cell units, S 7: sides .1, x .5 and .7: .5556, not 0; sides .4, x .5 and .6: .9310, not .6."""
    for side, xs, expected in ((0.1, (0.5, 0.7), 0.5556), (0.4, (0.5, 0.6), 0.9310)):
        predicted = torch.tensor([[[xs[0], 0.5, side**0.5, side**0.5]]])
        _, overlap = responsible(predicted, torch.tensor([[xs[1], 0.5, side, side]]), 7)
        assert overlap.item() == pytest.approx(expected, abs=1e-4)


def test_boxes_without_area_have_an_iou_of_0():
    zero = torch.zeros(4)
    assert centred_iou(zero, zero).item() == 0
    assert centred_iou(zero, torch.tensor([0.0, 0.0, 0.5, 0.5])).item() == 0


def test_case_138_the_classes_of_a_cell_sum_to_1():
    """What the class outputs are drawn to: the gradient at 0 is minus the target."""
    outputs, (rows, labels, boxes) = drawn(0)
    classes = torch.zeros_like(outputs.classes).requires_grad_()
    sums = LOSS(outputs._replace(classes=classes), rows, labels, boxes)
    target = -torch.autograd.grad(sums["classification"], classes)[0].flatten(0, 1)
    assert target.sum().item() == len(rows)
    assert target[rows].argmax(dim=1).tolist() == labels.tolist()
    assert set(target.unique().tolist()) <= {0.0, 1.0, -0.0}


def test_case_139_far_outputs_have_large_gradients():
    """Linear: at -10 the gradient is -11, where a sigmoid has -9.1e-5."""
    outputs, (rows, labels, boxes) = drawn(0)
    classes = torch.full_like(outputs.classes, -10).requires_grad_()
    grad = torch.autograd.grad(LOSS(outputs._replace(classes=classes), rows, labels, boxes)["classification"], classes)
    assert grad[0].flatten(0, 1)[rows, labels].tolist() == pytest.approx([-11] * len(rows))


def test_the_iou_that_is_learnt_moves_no_box():
    """Facts §11, 4: it is a number, and the confidence loss has no gradient for the boxes."""
    outputs, truth = drawn(1)
    sums = LOSS(outputs._replace(boxes=outputs.boxes.clone().requires_grad_()), *truth)
    assert {name for name, value in sums.items() if value.requires_grad} == {"centres", "sides"}


def test_gradients_are_difference_quotients():
    """In double precision, with targets that do not move."""
    loss = LOSS.model_copy(update={"confidence": "one"})
    outputs, truth = drawn(2)
    values = [value.double().requires_grad_() for value in outputs]

    def total(parts):
        return sum(loss(Cells(*parts), *truth).values())

    grads = torch.autograd.grad(total(values), values)
    random, step = np.random.default_rng(0), 1e-3
    for which, (value, grad) in enumerate(zip(values, grads, strict=True)):
        for place in random.integers(0, value.numel(), 12):
            ends = []
            for sign in (1, -1):
                parts = [part.detach().clone() for part in values]
                parts[which].view(-1)[place] += sign * step
                ends.append(total(parts).item())
            quotient = (ends[0] - ends[1]) / (2 * step)
            assert quotient == pytest.approx(grad.view(-1)[place].item(), rel=1e-4, abs=1e-6)
