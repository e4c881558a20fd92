"""What the tests of the whole reader share: loading in both modes, and what came of it."""

import pytest

from lib.datasets.check import load
from lib.datasets.settings import DataSettings
from lib.stage.errors import InputError
from lib.storage.tables import BOX


def strict(root, **settings):
    return load(root, DataSettings(**settings))


def lenient(root, **settings):
    return load(root, DataSettings(faults="lenient", **settings))


def boxes_of(dataset):
    return dataset.objects[BOX].to_numpy().tolist()


def refused(root, load_as=strict, **settings):
    """Kinds of the faults that stop the run, and the whole message."""
    with pytest.raises(InputError) as caught:
        load_as(root, **settings)
    return [fault.kind for fault in caught.value.faults], str(caught.value)


def noted(dataset):
    return [note.kind for note in dataset.notes]
