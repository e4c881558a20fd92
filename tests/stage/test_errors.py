"""The parts of a message, and an error that carries every fault."""

import pytest

from lib.stage.errors import Fault, InputError


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
