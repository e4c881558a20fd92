import copy

import numpy as np
import pytest
import torch
from torch import nn

from lib.backbones import backbones, model_file
from lib.backbones.centring import centre
from lib.backbones.scaling import Scale, Square
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


class Extra(nn.Module):
    """Made-up layers behind a trunk, as SSD and RetinaNet have: maps of their own, a scale for one, predictors."""

    def __init__(self):
        super().__init__()
        self.maps = nn.ModuleList([nn.Sequential(nn.Conv2d(112, 16, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1))])
        self.factor = nn.Parameter(torch.full((40,), 20.0))
        self.predict = nn.ModuleDict({"8": nn.Conv2d(40, 12, 3), "16": nn.Conv2d(112, 12, 3)})
        self.register_buffer("seen", torch.tensor(3))

    def describe(self):
        return {"strides": [8, 16, 32], "tensors": self.state_dict()}


def test_extra_layers_and_a_square_there_and_back(tmp_path, backbone):
    torch.manual_seed(1)
    extra = Extra()
    extra.maps.to(memory_format=torch.channels_last)
    sections = {"extra": extra.describe(), "deepest": backbone.deepest.state_dict()}
    model_file.save(tmp_path / "one.pt", backbone, ["cat"], Square(side=300), **sections)
    model = model_file.read(tmp_path / "one.pt", "extra", "deepest")
    assert model.scale == Square(side=300)
    assert model.sections["extra"]["strides"] == [8, 16, 32]
    again = Extra()
    again.load_state_dict(model.sections["extra"]["tensors"])
    assert all(torch.equal(a, b) for a, b in zip(extra.state_dict().values(), again.state_dict().values(), strict=True))
    found = model.backbone.deepest.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in backbone.deepest.state_dict().items())
    model_file.save(tmp_path / "two.pt", model.backbone, model.classes, model.scale, **model.sections)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


def test_all_maps_are_the_same_after_a_file(tmp_path, backbone):
    model_file.save(tmp_path / "m.pt", backbone, ["cat"], Square(side=64), deepest=backbone.deepest.state_dict())
    read = model_file.read(tmp_path / "m.pt").backbone
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        expected = centre(copy.deepcopy(backbone)).eval().maps(images, (8, 16, 32))
        found = read.maps(images, (8, 16, 32))
    assert all(torch.equal(found[stride], expected[stride]) for stride in (8, 16, 32))


def test_a_scale_is_written_as_it_always_was(tmp_path, backbone):
    model_file.save(tmp_path / "m.pt", backbone, ["cat"], SCALE, head={"a": 1})
    contents = checkpoint.load(tmp_path / "m.pt")
    assert list(contents) == ["backbone", "recipe", "trunk", "classes", "scale", "head"]
    assert contents["scale"] == {"short_side": [360, 480], "max_side": 1000}
    assert list(contents["scale"]) == ["short_side", "max_side"]
