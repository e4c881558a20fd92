"""`stages.propose` on images whose objects are too small for it: it says so, and what would find them."""

from lib.stage import overlay
from stages import propose
from tests.images_on_disk import write
from tests.life import FakeLife


def test_objects_that_are_missed_are_told_of_the_training_images_alone(tmp_path, capsys):
    values = overlay.values(overlay.DEFAULT)
    values["proposals"]["selective_search"] |= {"mode": "single", "min_box_px": 30}
    # The test image's object is large. Its class, and the others', do not matter.
    write(tmp_path, [[(20, 20, 32, 32)], [(70, 50, 81, 63)], [(20, 10, 120, 100)]], test=1)
    propose.main(FakeLife(tmp_path, "propose", values))
    said = capsys.readouterr().out
    assert "WARNING: propose: 100% of 2 objects for training have no proposal" in said
    assert "smaller than min_box_px (30) alone" in said
    values["proposals"]["selective_search"]["min_box_px"] = 8
    propose.main(FakeLife(tmp_path, "propose", values))
    assert "WARNING" not in capsys.readouterr().out
