"""What memory cannot hold."""

import pytest

from lib.stage.errors import InputError
from lib.stage.memory import require_memory


def test_a_need_above_the_limit_says_both_and_what_to_set():
    """6.84 GiB: the next half."""
    need = int(6.84 * 2**30)
    require_memory(need, need, "svm@rcnn", "svm.max_negatives")
    match = r"svm@rcnn: needs 6.84 GiB.*allows 4.00.*compute.memory_gib to 7.0 or more, or lower svm.max_negatives"
    with pytest.raises(InputError, match=match):
        require_memory(need, 4 * 2**30, "svm@rcnn", "svm.max_negatives")
    with pytest.raises(InputError):
        require_memory(need, need - 1, "svm@rcnn", "svm.max_negatives")
