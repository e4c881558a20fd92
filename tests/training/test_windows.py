import numpy as np
import pytest

from lib.stage.errors import InputError
from lib.training.windows import WindowSets, a_pass, sample_windows


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def window_sets(foreground=0.5, background=0.5):
    """One image: objects of class 0 and 1, and proposals at IoU 0.5, 1/3 and 0 with the first."""
    made = WindowSets(foreground, background)
    objects = boxes((0, 0, 6, 6), (50, 50, 60, 60))
    made.add_image(7, objects, np.array([0, 1]), boxes((2, 0, 8, 6), (3, 0, 9, 6), (80, 80, 90, 90)), 3)
    return made.join()


def test_sets_follow_caffes_rule():
    foreground, background = window_sets()
    assert foreground.label.tolist() == [1, 2, 1]  # both objects, and IoU 0.5 exactly
    assert background.label.tolist() == [0, 0]  # IoU 1/3, and IoU 0: there is no lower bound
    assert set(foreground.image) == {7}


def test_ties_go_to_the_first_class():
    made = WindowSets(0.5, 0.5)
    made.add_image(0, boxes((0, 0, 4, 4), (0, 0, 4, 4)), np.array([2, 1]), boxes(), 3)
    assert made.join()[0].label.tolist() == [2, 2]


def test_image_without_objects_gives_background_only():
    made = WindowSets(0.5, 0.5)
    made.add_image(0, boxes(), np.zeros(0, int), boxes((0, 0, 4, 4)), 2)
    foreground, background = made.join()
    assert (len(foreground), len(background)) == (0, 1)


def test_batch_is_background_first_then_a_quarter_foreground():
    random = np.random.default_rng(0)
    batch, mirror = sample_windows(window_sets(), 128, 0.25, 0.5, random)
    assert (batch.label[:96] == 0).all()
    assert (batch.label[96:] > 0).all()
    assert 30 < mirror.sum() < 98


def test_floor_of_the_foreground_share():
    batch, mirror = sample_windows(window_sets(), 30, 0.25, 0.0, np.random.default_rng(0))
    assert (batch.label > 0).sum() == 7
    assert not mirror.any()


@pytest.mark.parametrize("empty", [0, 1])
def test_an_empty_pool_is_made_up_for(empty):
    made = list(window_sets())
    made[empty] = WindowSets(0.5, 0.5).join()[empty]
    batch, _ = sample_windows((made[0], made[1]), 16, 0.25, 0.5, np.random.default_rng(0))
    assert len(batch) == 16
    assert (batch.label > 0).all() == bool(empty)


@pytest.mark.parametrize(("share", "empty", "expected"), [
    (0.25, None, (3, 4)), (0.0, None, (2, 16)), (0.25, 0, (2, 16)), (0.25, 1, (3, 16)),
])
def test_a_pass_is_over_what_a_batch_draws_of(share, empty, expected):
    """Three foreground and two background windows, 16 in a batch: foreground counts where any is drawn."""
    made = list(window_sets())
    if empty is not None:
        made[empty] = WindowSets(0.5, 0.5).join()[empty]
    total, drawn = a_pass((made[0], made[1]), 16, share)
    assert (total, drawn) == expected
    batch, _ = sample_windows((made[0], made[1]), 16, share, 0.0, np.random.default_rng(0))
    assert drawn == ((batch.label > 0).sum() or 16)


def test_draws_are_uniform_with_replacement():
    counts = np.zeros(3)
    made = window_sets()
    for seed in range(200):
        batch, _ = sample_windows(made, 40, 0.5, 0.5, np.random.default_rng(seed))
        for row in batch.boxes[20:]:
            counts[[tuple(one) for one in made[0].boxes.tolist()].index(tuple(row.tolist()))] += 1
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.03)


def test_two_empty_pools_are_an_error():
    with pytest.raises(InputError, match="no region of any image is foreground or background"):
        sample_windows(WindowSets(0.5, 0.5).join(), 8, 0.25, 0.5, np.random.default_rng(0))
