import numpy as np
import pytest

from lib.boxes.selection import check_scores
from lib.stage.errors import InputError


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_no_comparison_would_keep_are_refused(value):
    scores = np.float32([[0.5, value], [-np.inf, value], [0.1, 0.2]])
    with pytest.raises(InputError, match=rf"cat.jpg: 2 of 6 are {value}. Allowed: finite numbers. The network"):
        check_scores(scores, "cat.jpg")


@pytest.mark.parametrize("scores", [np.zeros((0, 3)), [[-np.inf, -3e38], [0, 3e38]], np.full((2, 2), -np.inf)])
def test_minus_infinity_is_no_score_and_allowed(scores):
    check_scores(np.array(scores, np.float32))
