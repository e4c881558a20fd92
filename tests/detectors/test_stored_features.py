"""Features that are stored come from the device in half precision, and are the bytes that float32 would become."""

import numpy as np
import pytest
import torch

from lib.backbones.device import Device
from lib.detectors.fast import network as fast
from lib.detectors.rcnn import network as rcnn
from lib.detectors.spp import network as spp
from lib.storage import shards
from tests.detectors.fast import models_on_disk as fast_models
from tests.detectors.rcnn import models_on_disk as rcnn_models
from tests.detectors.spp import models_on_disk as spp_models

METHODS = {
    "rcnn": (rcnn, rcnn_models, "cnn.pt"), "spp": (spp, spp_models, "cnn.pt"), "fast": (fast, fast_models, "one.pt"),
}


@pytest.fixture(scope="module", params=METHODS)
def method(request, tmp_path_factory):
    """A method's network module, its model, an image with boxes."""
    module, models, name = METHODS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    models.write(folder)
    return module, folder / name, models.IMAGE, models.BOXES


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_halves_are_the_stored_bytes_of_float32(method, precision, tmp_path):
    network, model, image, boxes = method
    extractor = network.Extractor(model, Device(torch.device("cpu"), precision), 2)
    plain = extractor.features(extractor.prepare(image, boxes))
    halves = extractor.features(extractor.prepare(image, boxes), torch.float16)
    assert plain.keys() == halves.keys() == {*extractor.widths, "probabilities"}
    for name in extractor.widths:
        assert (plain[name].dtype, halves[name].dtype) == (np.float32, np.float16)
    assert plain["probabilities"].dtype == halves["probabilities"].dtype == np.float32
    np.testing.assert_array_equal(plain["probabilities"], halves["probabilities"])
    files = []
    for folder, rows in (("plain", plain), ("halves", halves)):
        every = dict.fromkeys(extractor.widths, np.ones(len(boxes), bool))
        index = shards.plan(["a"], [shards.Rows(every, shards.digest(boxes))], extractor.widths, 2**20)
        writer = shards.Writer(tmp_path / folder, index, extractor.widths)
        writer.append(rows)
        files.append({path.name: path.read_bytes() for path in (tmp_path / folder).glob("*.npy")})
    assert files[0] == files[1]
    assert len(files[0]) == len(extractor.widths)
