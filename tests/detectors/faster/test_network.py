import numpy as np
import pytest
import torch

from lib.backbones import model_file
from lib.backbones.scaling import Scale
from lib.detectors.faster.network import ImageProposer
from lib.parallel.clock import Clock
from lib.stage.errors import InputError
from tests.detectors.faster.models_on_disk import CLASSES, CPU, IMAGE, REGIONS, parts, write


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faster")
    write(folder)
    return folder


def test_proposals_lie_in_the_image_best_first_and_at_least_one(files):
    proposer = ImageProposer(files / "m1.pt", CPU, Clock())
    boxes, scores = proposer(proposer.prepare(IMAGE), REGIONS)
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert (np.diff(scores) <= 0).all()
    assert (boxes >= 0).all()
    assert (boxes <= [160, 120, 160, 120]).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 8 - 1e-3).all()
    none = REGIONS.model_copy(update={"min_size": 1000.0})
    boxes, scores = proposer(proposer.prepare(IMAGE), none)
    assert (boxes.tolist(), scores.tolist()) == ([[0, 0, 160, 120]], [0])


@pytest.mark.parametrize(("layer", "where"), [("conv", "scores of anchors"), ("scores", "scores of anchors"),
                                              ("deltas", "deltas of anchors")])
def test_outputs_that_are_nan_are_no_image_without_proposals(files, layer, where):
    """Neither the whole image, nor none: a detector would find nothing, a table would hold one region for each."""
    proposer = ImageProposer(files / "m1.pt", CPU, Clock())
    prepared = proposer.prepare(IMAGE)
    with torch.no_grad():
        proposer.network.rpn.get_submodule(layer).bias.fill_(torch.nan)
    with pytest.raises(InputError, match=rf"{where}: (\d+) of \1 are nan. Allowed: finite numbers. The network"):
        proposer(prepared, REGIONS)
    with torch.inference_mode(), pytest.raises(InputError, match=where):
        proposer.propose(proposer.maps(prepared), prepared, REGIONS)


def test_a_pyramid_or_a_file_without_proposer_is_refused(files, tmp_path):
    backbone, rpn, _ = parts(0)
    pyramid = Scale(short_side=[100, 150], max_side=400)
    model_file.save(tmp_path / "p.pt", backbone, CLASSES, pyramid, rpn=rpn.describe())
    with pytest.raises(InputError, match="one size"):
        ImageProposer(tmp_path / "p.pt", CPU, Clock())
    with pytest.raises(InputError, match="rpn"):
        ImageProposer(files / "m2.pt", CPU, Clock())
