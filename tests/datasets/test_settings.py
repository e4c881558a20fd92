"""The block `data`: what of it contradicts itself."""

import pytest

from lib.datasets.settings import DataSettings, Lists
from lib.stage.errors import InputError
from lib.stage.params import validate


def test_lists_are_called_after_sets_unless_named():
    assert DataSettings().followed == {}
    assert DataSettings(lists=Lists(train="t1_train", test="val")).followed == {"train": "t1_train", "test": "val"}
    assert DataSettings(splits="hash").followed is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lists": {"train": " "}}, "names of split lists, none empty; null for none"),
        ({"lists": {"train": "a"}, "splits": "hash"}, "either names in lists or splits: hash, which reads no list"),
        ({"lists": {"trian": "a"}}, "Did you mean train"),
        ({"lists": {"train": 7}}, "is 7"),
        ({"test_from": "val"}, "is 'val'"),
        ({"val_fraction": 0.6, "test_fraction": 0.6}, "a sum of at most 1"),
        ({"classes": ["a", "a "]}, "none twice"),
    ],
)
def test_contradictions(values, message):
    with pytest.raises(InputError, match=message):
        validate({"data": values}, {"data": DataSettings})
