"""Work in several processes or threads gives the same results in the same order as in one."""

import os

import pytest

from lib.parallel.processes import in_order, workers
from lib.stage.params import Compute


def compute(count, launcher="threading"):
    return Compute(device="cpu", workers=count, launcher=launcher, memory_gib=1.0)


def test_number_of_workers():
    assert [workers(compute(count)) for count in (0, 1, 3)] == [1, 1, 3]
    assert workers(compute("auto")) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_are_in_the_order_of_the_arguments(count):
    assert list(in_order(pow, ((i, 2) for i in range(20)), compute(count))) == [i * i for i in range(20)]


def test_one_worker_stays_in_this_process_and_two_do_not():
    assert set(in_order(os.getpid, [()] * 3, compute(1, "loky"))) == {os.getpid()}
    assert os.getpid() not in set(in_order(os.getpid, [()] * 3, compute(2, "loky")))
