"""Losses that are read one step late: the same numbers, one wait, and what is not finite is named."""

import pytest
import torch

from lib.stage.errors import InputError
from lib.training.loss_log import LossLog
from tests import simulated_device


def parts(*values):
    """A part for each pair of numbers, its losses `a` and `b`."""
    return [{"a": torch.tensor(a), "b": torch.tensor(b)} for a, b in values]


def test_losses_are_summed_over_the_parts_and_follow_those_of_before():
    log = LossLog("m1", [{"iteration": 0, "a": 9.0, "b": 9.0}])
    log.add(1, parts((1.0, 0.5), (2.0, 0.25)), ["x.jpg"])
    log.add(2, parts((4.0, 0.125)), ["y.jpg"])
    expected = [
        {"iteration": 0, "a": 9.0, "b": 9.0}, {"iteration": 1, "a": 3.0, "b": 0.75},
        {"iteration": 2, "a": 4.0, "b": 0.125},
    ]
    assert log.rows() == expected
    assert log.rows() == expected


def test_sums_are_in_double_precision_in_the_order_of_the_parts():
    values = torch.rand(7, generator=torch.Generator().manual_seed(0))
    log = LossLog("m1", [])
    log.add(0, [{"a": value} for value in values], [])
    assert log.rows()[0]["a"] == sum(value.item() for value in values)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_is_named_with_the_step_that_it_belongs_to(bad):
    log = LossLog("m1", [])
    log.add(6, parts((1.0, 1.0), (1.0, bad)), ["x.jpg", "y.jpg"])
    with pytest.raises(InputError, match=r"m1, iteration 6, images x.jpg, y.jpg.*not finite.*'b': (nan|inf)"):
        log.add(7, parts((1.0, 1.0)), ["z.jpg"])


def test_a_gpu_is_waited_for_once_a_step_and_not_for_the_step_just_started():
    with simulated_device.installed() as gpu:
        log = LossLog("m1", [])
        for step in range(3):
            losses = {"a": simulated_device.device_tensor(torch.tensor(1.0 + step)).requires_grad_()}
            with gpu.counting() as waits:
                log.add(step, [losses], [])
            assert len(waits) == (step > 0)
        with gpu.counting() as waits:
            rows = log.rows()
        assert [row["a"] for row in rows] == [1.0, 2.0, 3.0]
        assert len(waits) == 1
