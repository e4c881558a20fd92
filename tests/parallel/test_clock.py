"""Seconds of parts add up, side by side in full, and become milliseconds per item."""

import threading

from lib.parallel import clock as subject
from lib.parallel.clock import Clock


def test_parts_add_up_and_are_forgotten(monkeypatch):
    times = iter([0.0, 1.0, 5.0, 5.5, 6.0, 8.0])
    monkeypatch.setattr(subject.time, "perf_counter", lambda: next(times))
    clock = Clock()
    for part in ("trunk", "nms", "trunk"):
        with clock(part):
            pass
    assert clock.seconds == {"trunk": 3.0, "nms": 0.5}
    assert clock.milliseconds(2) == {"trunk": 1500.0, "nms": 250.0}
    assert clock.milliseconds(0) == {"trunk": None, "nms": None}
    clock.reset()
    assert clock.seconds == {}


def test_the_device_is_waited_for_at_both_ends_but_not_in_a_block_of_the_host(monkeypatch):
    """A fake device computes 4 seconds behind the call that started it; waiting lets that time pass."""
    now, behind = [0.0], [4.0]

    def wait():
        now[0] += behind[0]
        behind[0] = 0.0

    monkeypatch.setattr(subject.time, "perf_counter", lambda: now[0])
    clock = Clock(wait)
    with clock.host("decode"):
        now[0] += 1
    assert (now[0], behind[0]) == (1.0, 4.0)  # what another thread has started goes on
    with clock("network"):
        behind[0] += 2
    assert clock.seconds == {"decode": 1.0, "network": 2.0}  # without the 4 of before


def test_blocks_side_by_side_count_in_full():
    clock, both = Clock(), threading.Barrier(2)

    def work():
        with clock("part"):
            both.wait()  # neither ends before the other has begun
            threading.Event().wait(0.05)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.seconds["part"] >= 0.1
