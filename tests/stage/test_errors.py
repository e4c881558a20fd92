"""The parts of a message, and an error that carries every fault."""

import pytest

from lib.stage.errors import Failures, Fault, InputError, at


def test_a_message_has_four_parts_each_with_its_full_stop():
    fault = Fault("bad setting", "params.yaml: a", "is 2", "1", "Change it")
    assert str(fault) == "params.yaml: a: is 2. Allowed: 1. Change it."
    assert str(Fault("k", "a.xml", "is empty.", remedy="Did you mean b?")) == "a.xml: is empty. Did you mean b?"


def test_an_error_carries_all_faults_and_shows_the_first_fifty():
    faults = [Fault("k", f"file {i}", "is empty") for i in range(52)]
    error = InputError(faults)
    assert error.faults == faults
    lines = str(error).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (51, "file 0: is empty.", "... and 2 more of 52 faults.")
    with pytest.raises(ValueError, match="at least one"):
        InputError([])


def test_what_fails_is_noted_and_the_rest_goes_on():
    failures, done = Failures(), []
    for item in range(5):
        with failures(f"item {item}", "Leave it out"):
            if item == 1:
                raise InputError([Fault("k", "file", "is empty"), Fault("k", "file", "is old")])
            if item == 3:
                raise MemoryError("no\n room")
            done.append(item)
    assert done == [0, 2, 4]
    assert failures.places == ["item 1", "item 3"]
    with pytest.raises(InputError) as error:
        failures.check()
    assert str(error.value).splitlines() == [
        "file: is empty.", "file: is old.", "item 3: MemoryError: no room. Leave it out.",
    ]
    Failures().check()


def test_ctrl_c_is_no_failure_of_an_item():
    failures = Failures()
    with pytest.raises(KeyboardInterrupt), failures("item"):
        raise KeyboardInterrupt
    assert failures.faults == []


def test_an_error_of_an_item_names_it():
    with pytest.raises(InputError) as error, at("item 1"):
        raise InputError([Fault("k", "scores", "are nan", "numbers", "Train again"), Fault("k", "boxes", "are nan")])
    assert str(error.value).splitlines() == [
        "item 1: scores: are nan. Allowed: numbers. Train again.", "item 1: boxes: are nan."]
    with pytest.raises(KeyError), at("item 1"):
        raise KeyError("left as it is")
