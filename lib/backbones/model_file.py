"""Models of the detectors with a shared trunk (SPPnet, Fast, Faster R-CNN): one `.pt` of sections, each readable alone.

    backbone, recipe : name and input recipe;  trunk : its tensors, batch norm's buffers among them
    classes, scale   : what the model was trained for, and how large it sees its images: a `Scale` or a `Square`
    head, rpn, ...   : one dict of tensors and plain types each, made by the owner of the section: every trained layer
                       behind the trunk is in one (SSD's extra feature maps, RetinaNet's pyramid)
    deepest          : the section of a model that uses the feature map of stride 32: `backbone.deepest.state_dict()`

M0 (`backbones.save_m0`) is read as well: it has `tensors`, the whole network, instead of `trunk`, and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.backbones.scaling import Sizing, restore
from lib.stage.errors import Fault, InputError
from lib.storage import checkpoint

RESERVED = ("backbone", "recipe", "trunk", "tensors", "classes", "scale")


@dataclass(frozen=True)
class Model:
    """What a file holds.

    backbone : its `trunk` has the file's weights and symmetric padding (see `centring`), its `deepest` the padding, and
               the weights where there is such a section; the rest of it has weights only where `whole` (M0)
    whole    : True where the file has the layers behind the trunk too
    classes  : names without background; none in M0
    scale    : None in M0
    sections : name -> dict of tensors and plain types
    """

    path: Path
    backbone: backbones.Backbone
    whole: bool
    classes: list[str]
    scale: Sizing | None
    sections: Mapping[str, dict[str, Any]]

    def require(self, classes: Sequence[str]) -> None:
        """Raises InputError where the model was trained for other classes, naming both lists."""
        if self.classes != list(classes):
            raise InputError(
                [Fault("other classes", str(self.path), f"was trained for {self.classes}",
                       f"the classes {list(classes)}", "Run: dvc repro")]
            )


def contents(
    backbone: backbones.Backbone, classes: Sequence[str], scale: Sizing, **sections: Mapping[str, Any]
) -> dict[str, Any]:
    """What a file holds: the trunk of `backbone` and the `sections`; `checkpoint.save` writes it.

    Raises ValueError for a section of a reserved name.
    """
    taken = [name for name in sections if name in RESERVED]
    if taken:
        raise ValueError(f"sections {taken}: the names {RESERVED} are taken.")
    recipe = {key: list(value) for key, value in asdict(backbone.recipe).items()}
    return {
        "backbone": backbone.name, "recipe": recipe, "trunk": backbone.trunk.state_dict(),
        "classes": list(classes), "scale": scale.model_dump(), **sections,
    }


def save(
    path: Path, backbone: backbones.Backbone, classes: Sequence[str], scale: Sizing, **sections: Mapping[str, Any]
) -> None:
    """Writes `contents`; the file is whole or not there. Raises TypeError for anything but tensors and plain types."""
    checkpoint.save(path, contents(backbone, classes, scale, **sections))


def read(path: Path, *sections: str) -> Model:
    """What `save` or `backbones.save_m0` wrote.

    sections : names that the file must have; the result has all of the file
    Raises InputError for a file that is missing, broken, or lacks one of them.
    """
    loaded = checkpoint.load(path, "backbone", "recipe", *sections)
    whole = "tensors" in loaded
    if whole:
        backbone = backbones.restore(loaded)
    else:
        loaded = checkpoint.load(path, "backbone", "recipe", "trunk", "classes", "scale", *sections)
        backbone = backbones.build(loaded["backbone"])
        backbone.trunk.load_state_dict(loaded["trunk"])
        if "deepest" in loaded:
            backbone.deepest.load_state_dict(loaded["deepest"])
        backbone.recipe = backbones.Recipe(*(tuple(loaded["recipe"][key]) for key in ("mean", "std")))
    scale = restore(loaded["scale"]) if "scale" in loaded else None
    others = {name: value for name, value in loaded.items() if name not in RESERVED}
    return Model(Path(path), centre(backbone).eval(), whole, loaded.get("classes", []), scale, others)
