import numpy as np
import pytest
import torch

from lib.backbones import backbones, model_file
from lib.backbones.scaling import Scale
from lib.stage.errors import InputError
from lib.storage import checkpoint

SCALE = Scale(short_side=[360, 480], max_side=1000)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return backbones.build("efficientnet_lite0").eval()


def test_round_trip_of_trunk_and_sections(tmp_path, backbone):
    section = {"numbers": [1, 2], "tensors": {"a": torch.arange(3.0)}}
    model_file.save(tmp_path / "m.pt", backbone, ["cat", "dog"], SCALE, rpn=section)
    model = model_file.read(tmp_path / "m.pt", "rpn")
    assert model.classes == ["cat", "dog"]
    assert model.scale == SCALE
    assert not model.whole
    assert model.backbone.recipe == backbone.recipe
    assert list(model.sections) == ["rpn"]
    assert model.sections["rpn"]["numbers"] == [1, 2]
    assert torch.equal(model.sections["rpn"]["tensors"]["a"], torch.arange(3.0))
    expected = backbone.trunk.state_dict()
    assert list(model.backbone.trunk.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in model.backbone.trunk.state_dict().items())


def test_reading_and_writing_again_gives_the_same_bytes(tmp_path, backbone):
    section = {"tensors": {"a": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)}}
    model_file.save(tmp_path / "one.pt", backbone, ["cat"], SCALE, head=section)
    model = model_file.read(tmp_path / "one.pt")
    model_file.save(tmp_path / "two.pt", model.backbone, model.classes, model.scale, **model.sections)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


def test_m0_is_read_too(tmp_path, backbone):
    backbones.save_m0(tmp_path / "m0.pt", backbone)
    model = model_file.read(tmp_path / "m0.pt")
    assert model.whole
    assert model.classes == []
    assert model.scale is None
    assert not model.sections
    with pytest.raises(InputError, match=r"m0.pt: has no \['head'\]"):
        model_file.read(tmp_path / "m0.pt", "head")


def test_other_classes_are_refused_with_both_lists(tmp_path, backbone):
    """Case 71."""
    model_file.save(tmp_path / "m.pt", backbone, ["cat", "dog"], SCALE)
    model = model_file.read(tmp_path / "m.pt")
    model.require(["cat", "dog"])
    with pytest.raises(InputError, match=r"trained for \['cat', 'dog'\].*\['cat'\]"):
        model.require(["cat"])


def test_a_section_may_not_take_a_reserved_name(tmp_path, backbone):
    with pytest.raises(ValueError, match="trunk"):
        model_file.save(tmp_path / "m.pt", backbone, [], SCALE, trunk={})


def test_arrays_and_missing_parts_are_refused(tmp_path, backbone):
    """Case 69."""
    with pytest.raises(TypeError, match="ndarray"):
        model_file.save(tmp_path / "m.pt", backbone, [], SCALE, head={"a": np.zeros(2)})
    checkpoint.save(tmp_path / "m.pt", {"backbone": "resnet18", "recipe": {}})
    with pytest.raises(InputError, match=r"has no \['trunk', 'classes', 'scale'\]"):
        model_file.read(tmp_path / "m.pt")
