"""SSD and RetinaNet against torchvision's own: accuracy on digits, BCCD and VOC, a step, a test image.

    python -m benchmarks.dense [--methods ssd retinanet] [--sets digits bccd voc] [--seeds 3 4 5] [--times]

Both have the ImageNet trunk of efficientnet_lite0 as ours trains it (batch norm frozen and folded, channels-last), the
same images, input size, anchors, batches in the same order, steps, optimiser and schedule; augmentation is off on both
sides. The numbers are those of the set's preset, but for DEPTH, since torchvision's subnets have four convolutions
whatever is asked for. Tables and M0 are read from where `make repro` (digits) and `make preset NAME=...` left them.
What differs is in DIFFERENCES.

Accuracy: voc10_map on the test split, ours - theirs, the mean over the seeds: `difference_SET`. `--times`: steps and
test images of both in turns on the first set, medians and the median of ours / theirs: `ratio_step`, `ratio_test`; it
wants a machine that does nothing else. Writes results/benchmarks/dense.json after each training, and goes on from it.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from benchmarks.selective_search import machine, stay_on
from lib.backbones import model_file
from lib.backbones.backbones import Backbone
from lib.backbones.device import Device, pick_device
from lib.backbones.inference import fold_batch_norm
from lib.detection import many_images
from lib.detection.candidates import Candidates
from lib.detectors.dense.network import DenseHead
from lib.detectors.dense.training import DenseTraining, trained_trunk
from lib.detectors.retinanet.network import PyramidAnchors, PyramidLayers
from lib.detectors.ssd.network import DefaultBoxes, SsdHead
from lib.evaluation import inputs
from lib.evaluation import scores as report
from lib.images.image_set import ImageSet
from lib.parallel.clock import Clock
from lib.stage import overlay, params
from lib.storage import checkpoint, tables
from lib.training import loop
from lib.training.order import images_of
from lib.training.task import Given

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "results/benchmarks/dense.json"
PRESETS = {"digits": "default", "bccd": "bccd", "voc": "voc2007-cpu"}
DEPTH = 4  # of RetinaNet's subnets, ours and theirs
NO_AUGMENTATION = {"photometric": False, "expand": 1.0, "crops": [], "interpolation": False, "mirror": 0.0}
DIFFERENCES = [
    "step: ours computes the images in two halves side by side, a thread each; theirs one batch on all threads",
    "resizing: ours OpenCV on bytes, theirs torch on float32",
    "RetinaNet: theirs pads to a multiple of 32, has its first anchors round 0, not half a stride, and whole sides",
    "RetinaNet: ours normalises groups of channels in pyramid and subnets (retinanet.layers.groups); theirs does not",
    "RetinaNet: theirs has L1 and the mean over the images; ours smooth L1 and the positives of the batch",
    "SSD: theirs gives each object its favourite box, which a later object may take; ours another one",
    "SSD: theirs clips width and height of the default boxes to the image",
    "test: theirs takes the best 400 of a class (SSD), clips and moves them in torch; ours on the host",
]


@dataclass(frozen=True)
class Setting:
    """A method on a set: the params, its folder with data/tables and data/models/m0.pt, the seed."""

    method: str
    values: Mapping[str, Any]
    folder: Path
    seed: int

    @property
    def block(self) -> dict[str, Any]:
        """Of the method."""
        return dict(self.values[self.method])

    @property
    def training(self) -> DenseTraining:
        """Checked."""
        return self.checked(f"{self.method}.train")

    def checked(self, *keys: str) -> Any:
        """The checked values of these params; one alone without its list."""
        module = import_module(f"lib.detectors.{self.method}.training")
        detect = import_module(f"lib.detectors.{self.method}.detector").Detect
        schema = {**module.reads(f"{self.method}.train", self.method), f"{self.method}.detect": detect}
        checked = params.validate(dict(self.values), {key: schema[key] for key in keys})
        return checked[keys[0]] if len(keys) == 1 else checked

    def images(self, splits: Sequence[str], difficult: bool = True) -> ImageSet:
        """Of these splits."""
        root = self.folder / self.values["data"]["root"]
        return ImageSet(str(root), self.folder / "data/tables", splits, difficult, cache_bytes=2**30)

    def backbone(self) -> Backbone:
        """M0's."""
        return model_file.read(self.folder / "data/models/m0.pt").backbone


def setting(method: str, name: str, seed: int) -> Setting:
    """See the module's docstring. Raises SystemExit where the data of a set are not prepared."""
    preset = PRESETS[name]
    values = overlay.values(preset)
    values["retinanet"]["layers"]["depth"] = DEPTH
    values[method]["train"]["augment"] = NO_AUGMENTATION
    folder = ROOT if name == "digits" else ROOT / ".scratch/presets" / preset
    for path in ("data/tables/images.parquet", "data/models/m0.pt"):
        if not (folder / path).exists():
            wanted = "make repro" if name == "digits" else f"make preset NAME={preset} ROWS={method}"
            raise SystemExit(f"ERROR: {folder / path} is not there. Run: {wanted}")
    return Setting(method, values, folder, seed)


def given(setup: Setting, device: Device) -> Given:
    """The input of our training, as `stages/train.py` makes it."""
    images = setup.images(setup.values["splits"]["train"], setup.block["difficult"])
    block = f"{setup.method}.train"
    keys = import_module(f"lib.detectors.{setup.method}.training").reads(block, setup.method)
    checked = setup.checked(*keys)
    m0 = setup.folder / "data/models/m0.pt"
    return Given(
        setup.method, block, setup.method, checked, setup.seed, images, lambda _: m0, ["model"], device, 0
    )


class PeerTrunk(nn.Module):
    """What torchvision's detectors take: a batch -> maps by name. For SSD the extra layers of ours are behind it."""

    def __init__(self, trunk: nn.Module, neck: nn.Module, channels: Any) -> None:
        super().__init__()
        self.neck, self.out_channels = neck, channels
        self._trunk = [trunk]  # its parameters are the backbone's

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self._trunk[0](images.contiguous(memory_format=torch.channels_last))
        made: dict[str, Tensor] = self.neck(OrderedDict((str(stride), level) for stride, level in maps.items()))
        return made


class Extras(nn.Module):
    """SSD's scaled maps and extra maps, by the layers of ours."""

    def __init__(self, head: SsdHead) -> None:
        super().__init__()
        self.l2, self.extra = head.l2, head.extra

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        *_, current = maps.values()
        sources = [scaled(level) for scaled, level in zip(self.l2, maps.values(), strict=True)]
        for layer in self.extra:
            current = layer(current)
            sources.append(current)
        return OrderedDict((str(number), value) for number, value in enumerate(sources))


def theirs(setup: Setting, backbone: Backbone, trunk: nn.Module, head: DenseHead, classes: int) -> nn.Module:
    """torchvision's detector on the trunk; `head` is ours, of whose layers SSD's extra ones are taken."""
    recipe, detect = backbone.recipe, setup.block["detect"]
    common = {
        "image_mean": [value / 255 for value in recipe.mean], "image_std": [value / 255 for value in recipe.std],
        "score_thresh": detect["floor"], "nms_thresh": detect["nms"], "detections_per_img": detect["most"],
    }
    if setup.method == "ssd":
        boxes: DefaultBoxes = setup.checked("ssd.boxes")
        side = setup.training.scale.side  # type: ignore[union-attr]
        assert isinstance(head, SsdHead)
        widths = [layer.in_channels for layer in head.scores]  # type: ignore[union-attr]
        generator = DefaultBoxGenerator(boxes.ratios, scales=[value / side for value in boxes.sides], steps=boxes.steps)
        peer = PeerTrunk(trunk, Extras(head), widths)
        return SSD(peer, generator, (side, side), classes + 1, topk_candidates=detect["per_image"], **common)
    layers: PyramidLayers = setup.checked("retinanet.layers")
    anchors: PyramidAnchors = setup.checked("retinanet.anchors")
    channels = [backbone.level_channels[stride] for stride in layers.of_trunk]
    further = len(layers.strides) - len(channels)
    last = _Further(channels[-1], layers.width, further) if further else None
    pyramid = FeaturePyramidNetwork(channels, layers.width, last)
    sides = [[anchors.side * stride * 2 ** (k / anchors.octaves) for k in range(anchors.octaves)]
             for stride in layers.strides]
    generator = AnchorGenerator(
        tuple(tuple(round(side) for side in level) for level in sides), (tuple(anchors.ratios),) * len(sides))
    scale = setup.training.scale
    return RetinaNet(
        PeerTrunk(trunk, pyramid, layers.width), classes, min_size=scale.short_side[0],  # type: ignore[union-attr]
        max_size=scale.max_side, anchor_generator=generator, topk_candidates=detect["per_level"],  # type: ignore[union-attr]
        **common,
    )


class _Further(LastLevelP6P7):
    """P6 and P7 of torchvision, of C5; one level where one is asked for."""

    def __init__(self, channels: int, width: int, levels: int) -> None:
        super().__init__(channels, width)
        self._levels = levels

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        maps, named = super().forward(p, c, names)
        left_out = 2 - self._levels
        return maps[: len(maps) - left_out], named[: len(named) - left_out]


class Peer(nn.Module):
    """torchvision's detector and the trunk that it shares with nobody, as one network for the loop."""

    def __init__(self, setup: Setting, device: Device, classes: int) -> None:
        super().__init__()
        torch.manual_seed(setup.seed)
        task = import_module(f"lib.detectors.{setup.method}.training").task(given(setup, device))
        backbone, head = setup.backbone(), task.network.head
        self.levels = backbone.levels(head.strides)
        trunk = trained_trunk(backbone, self.levels, setup.training.frozen, device.torch_device)
        self.detector = theirs(setup, backbone, trunk, head, classes)
        self.first = 1 if setup.method == "ssd" else 0  # label of the first class

    def train(self, mode: bool = True) -> "Peer":
        """All but the trunk, whose batch norm stays frozen."""
        super().train(mode)
        self.levels.eval()
        return self

    def at_test(self) -> nn.Module:
        """The detector on the folded trunk, in evaluation mode."""
        self.eval()
        self.detector.backbone._trunk = [fold_batch_norm(self.levels)]
        return self.detector


def peer_batches(setup: Setting, images: ImageSet, first: int) -> Callable[[int], list[Any]]:
    """The images of batch i as torchvision takes them, those of ours in the same order."""
    def batch(i: int) -> list[Any]:
        count = setup.training.images
        ids = [images.ids[row] for row in images_of(setup.seed, setup.method, i, count, len(images))]
        pixels = [torch.from_numpy(images.image(name)).permute(2, 0, 1).float() / 255 for name in ids]
        objects = [images.objects(name) for name in ids]
        targets = [{"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels + first)}
                   for boxes, labels in objects]
        return [(pixels, targets, ids)]
    return batch


def peer_losses(peer: Peer, device: Device) -> Callable[[Any], loop.Part]:
    """torchvision's losses of a batch."""
    def losses(part: Any) -> loop.Part:
        pixels, targets, ids = part
        on_device = [{name: value.to(device.torch_device) for name, value in target.items()} for target in targets]
        return loop.Part(peer.detector([image.to(device.torch_device) for image in pixels], on_device), ids)
    return losses


def shown(label: str) -> Callable[[Iterable[int], int], Iterator[int]]:
    """A line now and then."""
    def progress(todo: Iterable[int], done: int) -> Iterator[int]:
        for i in todo:
            if i % 50 == 0:
                print(label, i, flush=True)
            yield i
    return progress


def train_ours(setup: Setting, device: Device, folder: Path) -> Path:
    """The model file."""
    task = import_module(f"lib.detectors.{setup.method}.training").task(given(setup, device))
    (phase,) = task.phases()
    loop.train(task.network, phase.fresh, phase.batch, phase.losses, phase.settings, device, setup.seed,
               setup.method, folder, shown(f"ours {setup.method}"))
    checkpoint.save(folder / "model.pt", task.sections())
    return folder / "model.pt"


def train_theirs(setup: Setting, device: Device, folder: Path) -> nn.Module:
    """The trained peer at test."""
    images = setup.images(setup.values["splits"]["train"], setup.block["difficult"])
    peer = Peer(setup, device, len(images.classes))
    training = setup.training
    settings = training.resolved(len(images), training.images).model_copy(update={"parts": 1})
    loop.train(peer, [peer.detector], peer_batches(setup, images, peer.first), peer_losses(peer, device), settings,
               device, setup.seed, setup.method, folder, shown(f"theirs {setup.method}"))
    return peer.at_test()


def detector_of(setup: Setting, model: Path, device: Device) -> Any:
    """Our detector."""
    module = import_module(f"lib.detectors.{setup.method}.detector")
    return module.Detector({"model": model}, setup.checked(f"{setup.method}.detect"), device, Clock())


def voc10(setup: Setting, detections: Path) -> float:
    """voc10_map of a table."""
    splits = setup.values["splits"]["test"]
    scored = inputs.read(detections, setup.folder / "data/tables/objects.parquet", splits)
    return float(report.metrics(report.score_inputs(scored))["voc10_map"])  # type: ignore[arg-type]


def measure_ours(setup: Setting, model: Path, device: Device, folder: Path) -> float:
    """voc10_map of our detector."""
    images = setup.images(setup.values["splits"]["test"])
    detector = detector_of(setup, model, device)
    candidates = Candidates(folder, images.classes, len(images), setup.checked(f"{setup.method}.detect"))
    list(many_images.detect(detector, images.ids, images.image, None, candidates, Clock(), device, 2))
    candidates.write(folder / "detections.parquet")
    return voc10(setup, folder / "detections.parquet")


def measure_theirs(setup: Setting, peer: nn.Module, device: Device, folder: Path) -> float:
    """voc10_map of theirs."""
    images, frames = setup.images(setup.values["splits"]["test"]), []
    first = 1 if setup.method == "ssd" else 0
    for image_id in images.ids:
        detections = run_theirs(peer, images.image(image_id), device)
        frame = pd.DataFrame(detections["boxes"].numpy(), columns=tables.BOX)
        names = [images.classes[int(label) - first] for label in detections["labels"]]
        frames.append(frame.assign(image_id=image_id, score=detections["scores"].numpy(), **{"class": names}))
    table = pd.concat(frames, ignore_index=True)[tables.DETECTIONS.names]
    tables.write(folder / "detections.parquet", table, tables.DETECTIONS)
    return voc10(setup, folder / "detections.parquet")


def run_theirs(peer: nn.Module, image: np.ndarray, device: Device) -> dict[str, Tensor]:
    """From an image to its detections."""
    with torch.inference_mode():
        pixels = torch.from_numpy(image).to(device.torch_device).permute(2, 0, 1).float() / 255
        return {name: value.cpu() for name, value in peer([pixels])[0].items()}


def times(setup: Setting, device: Device, rounds: int, threads: int, folder: Path) -> dict[str, float]:
    """`ratio_step` and `ratio_test`, in turns, and milliseconds of both."""
    task = import_module(f"lib.detectors.{setup.method}.training").task(given(setup, device))
    (phase,) = task.phases()
    images = setup.images(setup.values["splits"]["train"], setup.block["difficult"])
    peer = Peer(setup, device, len(images.classes)).train()
    batch, losses = peer_batches(setup, images, peer.first), peer_losses(peer, device)
    trained = [value for value in peer.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    steps: tuple[list[float], list[float]] = ([], [])

    def turns(todo: Iterable[int], _: int) -> Iterator[int]:
        for i in todo:
            began = time.perf_counter()
            yield i
            between = time.perf_counter()
            optimiser.zero_grad()
            sum(losses(batch(i)[0]).losses.values()).backward()  # type: ignore[union-attr]
            optimiser.step()
            if i >= 3:
                steps[0].append(1000 * (between - began))
                steps[1].append(1000 * (time.perf_counter() - between))

    settings = phase.settings.model_copy(update={"iterations": rounds + 3, "learning_rate": 1e-6, "parts": threads})
    loop.train(task.network, phase.fresh, phase.batch, phase.losses, settings, device, 0, "benchmark", folder, turns)
    checkpoint.save(folder / "model.pt", task.sections())
    torch.set_num_threads(1)
    detector, at_test, shots = detector_of(setup, folder / "model.pt", device), peer.at_test(), ([], [])
    tested = setup.images(setup.values["splits"]["test"])
    for turn in range(rounds + 3):
        image = tested.image(tested.ids[turn % len(tested)])
        for seconds, work in zip(shots, (lambda im: detector(detector.prepare(im)),
                                         lambda im: run_theirs(at_test, im, device)), strict=True):
            began = time.perf_counter()
            work(image)
            seconds.extend([1000 * (time.perf_counter() - began)] * (turn >= 3))
    torch.set_num_threads(threads)
    result = {}
    for name, (ours_ms, theirs_ms) in (("step", steps), ("test", shots)):
        ratios = [first / second for first, second in zip(ours_ms, theirs_ms, strict=True)]
        result |= {f"ratio_{name}": statistics.median(ratios), f"ours_{name}_ms": statistics.median(ours_ms),
                   f"torchvision_{name}_ms": statistics.median(theirs_ms)}
    return result


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["ssd", "retinanet"])
    parser.add_argument("--sets", nargs="*", default=list(PRESETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[3, 4, 5])
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    device = pick_device(options.device, "float32", training=True)
    torch.set_num_threads(options.threads)
    stay_on(options.threads)
    result = json.loads(options.out.read_text()) if options.out.exists() else {"runs": {}}
    result |= {
        "what": "SSD and RetinaNet, ours beside torchvision's: voc10_map, a training step, a test image",
        "machine": {"device": options.device, "processor": machine(), "torch": torch.__version__,
                    "torchvision": torchvision.__version__},
        "differences": DIFFERENCES,
    }
    for method in options.methods:
        for name in options.sets:
            for seed in options.seeds[:1] if name == "voc" else options.seeds:
                key = f"{method} {name} {seed}"
                if key not in result["runs"]:
                    result["runs"][key] = _accuracy(setting(method, name, seed), device)
                    _write(options.out, result)
        if options.times:
            setup = setting(method, options.sets[0] if options.sets else "digits", 3)
            with tempfile.TemporaryDirectory() as folder:
                result[method] = {
                    **result.get(method, {}), **times(setup, device, options.rounds, options.threads, Path(folder))
                }
            _write(options.out, result)
    for method in options.methods:
        print(method, *(f"{key} {value:.4g}" for key, value in result[method].items()))
    print("differences:", *DIFFERENCES, sep="\n  ")


def _accuracy(setup: Setting, device: Device) -> dict[str, float]:
    """voc10_map of both, and the minutes of both trainings."""
    made = {}
    for side, train, measure in (("ours", train_ours, measure_ours), ("torchvision", train_theirs, measure_theirs)):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            trained = train(setup, device, Path(folder))  # type: ignore[operator]
            made[f"{side}_minutes"] = (time.perf_counter() - began) / 60
            made[side] = measure(setup, trained, device, Path(folder))  # type: ignore[operator]
    return made


def _write(path: Path, result: dict[str, Any]) -> None:
    """With the means over the seeds."""
    of_sets: dict[tuple[str, str], list[float]] = {}
    for key, run in result["runs"].items():
        method, name, _ = key.split()
        of_sets.setdefault((method, name), []).append(run["ours"] - run["torchvision"])
    for (method, name), values in of_sets.items():
        result.setdefault(method, {})[f"difference_{name}"] = statistics.fmean(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
