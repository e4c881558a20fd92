"""Faster R-CNN jointly trained on PASCAL VOC 2007, ours against torchvision's: accuracy, time and memory.

    python -m benchmarks.voc [--ours] [--peer] [--times] [--preset voc2007-cpu] [--root FOLDER]
        [--norm trained] [--rounds 16]

Both have the same trunk, images, image size, scales and ratios of anchors, steps and schedule: those of the preset's
row faster_joint. The rest of torchvision's is in PEER and HEADS, what differs in DIFFERENCES. It has no padding to a
multiple of 32, the optimiser is fused, and batch norm is folded at test; its anchors get the true stride, as without
padding it would take 15 for 16.

    --ours   runs the row where its figures are missing or stale, as `make preset` does: half an hour on two cores
    --peer   trains torchvision's and detects with it: an hour on two cores
    --times  steps and test images of both in turns, in float32: minutes, wants a machine that does nothing else
             a step on as many cores as `--threads`, from the first one of a training; a test image on one thread,
             from pixels to detections, with the trained models where both are there

Without these flags one after the other, each in a process of its own. All is kept in .scratch, so that a killed run
goes on and a second one measures again only what has changed. Each writes its part of results/benchmarks/voc.json and
leaves the others: `ratio_step` and `ratio_test` are ours / torchvision's, `difference_voc10` is ours - torchvision's.
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from benchmarks.faster import PeerTrunk
from benchmarks.selective_search import ROOT, stay_on
from lib.backbones import backbones, model_file, weights
from lib.backbones.device import Device, pick_device
from lib.backbones.inference import fold_batch_norm
from lib.boxes.boxes import clip, flip
from lib.boxes.nms import nms_per_class
from lib.datasets import check
from lib.detectors.faster import detector as detector_module
from lib.detectors.faster import train_joint
from lib.detectors.faster.rpn import Proposing
from lib.evaluation import inputs
from lib.evaluation import scores as report
from lib.evaluation.settings import Evaluate
from lib.images.image_set import ImageSet, Splits
from lib.parallel.ahead import ahead
from lib.parallel.clock import Clock
from lib.stage import overlay, params, pipeline
from lib.stage.errors import InputError
from lib.stage.params import Compute, Seed
from lib.storage import checkpoint, tables
from lib.training import loop
from lib.training.order import images_of
from lib.training.task import Given, Task
from lib.training.trunk import TrainedTrunk
from stages.prepare import Data
from stages.pretrain import M0
from tools import preset

RESULT = ROOT / "results/benchmarks/voc.json"
SCRATCH = ROOT / ".scratch/benchmarks/voc"
HOMES = Path("results/presets")
DIFFERENCES = [
    "batch norm: statistics fixed in both; scale and shift are trained in theirs with --norm trained, and not in ours",
    "resizing: ours OpenCV on bytes, theirs torch on float32",
    "step: ours computes the images side by side, a thread each; theirs one after the other, each on all threads, "
    "which is faster than one batch, padded to the largest",
    "region proposal network: theirs has as many hidden channels as the trunk and one score, ours those of faster.rpn",
    "step: ours leaves anchors across the border out; theirs samples from all",
    "anchors: ours, as the authors', rounded at side 16 and centred at pixel 8; theirs at 0",
    "RoIAlign: ours has the centre of cell u at pixel 16 u + 0.5, half-open, where it is; theirs at 16 u",
    "proposals: ours drop small boxes, then take the best; theirs take the best 2000 (1000 at test) first",
    "smooth L1 of the head: beta as in the preset in ours, 1/9 in theirs",
    "detections: ours at most 100 of a class in an image, theirs 100 of an image",
]
ROW = "faster_joint"
BLOCK = f"{ROW}.train"
READS = {
    **train_joint.reads(BLOCK, "faster"), "faster.difficult": bool, "faster.detect": detector_module.Detect,
    "faster.propose.test": Proposing, "compute": Compute, "data": Data, "evaluate": Evaluate, "m0": M0, "seed": Seed,
    "splits": Splits,
}
# What reaches torchvision's accuracy here, whatever the preset chooses for ours.
PEER = {"learning_rate": 4e-4, "weight_decay": 1e-4, "clip_norm": 10.0}
HEADS = {
    "box_batch_size_per_image": 128, "box_positive_fraction": 0.25, "box_nms_thresh": 0.5, "box_score_thresh": 0.01,
    "rpn_post_nms_top_n_train": 500, "rpn_post_nms_top_n_test": 300,
}
SHARED = "../shared/data/voc2007/VOCdevkit"  # train and val alone, three images short of the official set
NORMS = ("trained", "frozen")
SAVE_S = 120.0  # seconds between the states from which a killed training continues
PIECE = 64  # images whose detections are written together
STEPS = 4  # of each side in a round
WARM_UP = 2  # rounds, and images, that do not count

Example = tuple[Tensor, dict[str, Tensor]]
Detections = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setup:
    """What both sides share.

    params : dotted key of `READS` -> checked value;  train : the block of the row, its iterations a number
    device : where both run
    folder : what is kept: tables, M0, the peer's state and its detections;  norm : one of `NORMS`
    """

    params: Mapping[str, Any]
    train: train_joint.JointTraining
    folder: Path
    device: Device
    norm: str

    @property
    def memory(self) -> int:
        """Bytes for decoded images, as in stages/train.py."""
        return int(self.params["compute"].memory_gib * 2**30) // 4

    def images(self, splits: str, difficult: bool = False) -> ImageSet:
        """The images of `splits.train` or `splits.test`; a set of its own, as it is for a single thread."""
        names = getattr(self.params["splits"], splits)
        return ImageSet(self.params["data"].root, self.folder / "tables", names, difficult, self.memory)


def set_up(values: Mapping[str, Any], device: Device, norm: str, scratch: Path = SCRATCH) -> Setup:
    """Checks the params, and makes the tables and M0 once, in a folder of `scratch` that is named after all that the
    peer depends on. Raises InputError."""
    checked = params.validate(values, READS)
    train = checked[BLOCK]
    shared = {name: getattr(train, name) for name in ("scale", "images", "mirror", "iterations", "schedule")}
    shared |= {key: checked[key] for key in ("data", "m0", "seed", "splits", "faster.anchors", "faster.difficult")}
    folder = scratch / hashlib.sha256(repr((shared, PEER, HEADS, norm)).encode()).hexdigest()[:16]
    setup = Setup(checked, train, folder, device, norm)
    if not (folder / "m0.pt").exists():
        dataset = check.load(checked["data"].root, checked["data"], torch.get_num_threads())
        tables.write(folder / "tables/images.parquet", dataset.images, tables.IMAGES)
        tables.write(folder / "tables/objects.parquet", dataset.objects, tables.OBJECTS)
        tables.write_json(folder / "tables/classes.json", dataset.classes)
        backbones.save_m0(folder / "m0.pt", weights.pretrained(checked["m0"].backbone, checked["m0"].weights))
    return replace(setup, train=train.resolved(len(setup.images("train")), train.images))


class Anchors(AnchorGenerator):
    """torchvision's, a trunk's stride apart: from the sides of image and map it would take 15 for 533 pixels."""

    def __init__(self, settings: Any, stride: int) -> None:
        super().__init__((tuple(settings.scales),), (tuple(settings.ratios),))
        self._stride = torch.tensor(stride)

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        return super().grid_anchors(grid_sizes, [[self._stride, self._stride]])


def torchvisions(
    setup: Setup, backbone: backbones.Backbone, run: Callable[[Tensor], Tensor], classes: int
) -> FasterRCNN:
    """torchvision's detector on a trunk that `run` runs and that it does not hold."""
    scale = setup.train.scale
    model = FasterRCNN(
        PeerTrunk(run), classes + 1, min_size=scale.short_side[0], max_size=scale.max_side, size_divisible=1,
        rpn_anchor_generator=Anchors(setup.params["faster.anchors"], backbone.stride),
        box_roi_pool=MultiScaleRoIAlign(["0"], backbone.grid, 2),
        image_mean=[value / 255 for value in backbone.recipe.mean],
        image_std=[value / 255 for value in backbone.recipe.std], **HEADS,
    )
    return model.to(setup.device.torch_device, memory_format=torch.channels_last)


def pixels(image: np.ndarray, device: Device) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, H, W) from 0 to 1, what torchvision's detectors take."""
    return device.put(image).permute(2, 0, 1).float() / 255


class Peer:
    """torchvision's detector in training.

    done     : iterations;  seconds : that they took
    peak_mib : of the memory of the processes that trained it;  origin : of the last one, see `origin`
    """

    def __init__(self, setup: Setup) -> None:
        self._setup, self._images = setup, setup.images("train", setup.params["faster.difficult"])
        backbone = model_file.read(setup.folder / "m0.pt").backbone
        torch.manual_seed(setup.params["seed"])
        where = setup.device.torch_device
        # In evaluation mode from here on: the statistics of batch norm are fixed.
        self.trunk = backbone.trunk.to(where, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        run = TrainedTrunk(self.trunk, 0, where) if setup.norm == "frozen" else self.trunk.forward
        self.model = torchvisions(setup, backbone, run, len(self._images.classes)).train()
        named = [
            (name, value)
            for module in (self.trunk, self.model) for name, value in module.named_parameters() if value.requires_grad
        ]
        self._parameters = [value for _, value in named]
        groups = [
            {"params": [value for name, value in named if name.endswith("bias") == bias], "weight_decay": decay}
            for bias, decay in ((False, PEER["weight_decay"]), (True, 0.0))
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=PEER["learning_rate"], fused=True)
        self.done, self.seconds, self.peak_mib = 0, 0.0, 0.0
        self.origin = origin()

    def batch(self, i: int) -> list[Example]:
        """The images of our batch i and their objects, mirrored by a draw of their own."""
        train, seed, images = self._setup.train, self._setup.params["seed"], self._images
        random, examples = loop.generator(seed, f"{ROW} torchvision", i), []
        for position in images_of(seed, ROW, i, train.images, len(images)):
            image_id = images.ids[position]
            image, (boxes, labels) = images.image(image_id), images.objects(image_id)
            if random.random() < train.mirror:
                image, boxes = np.ascontiguousarray(image[:, ::-1]), flip(boxes, image.shape[1])
            put = self._setup.device.put
            examples.append((pixels(image, self._setup.device), {"boxes": put(boxes), "labels": put(labels + 1)}))
        return examples

    def step(self, i: int, examples: list[Example], together: bool = False) -> float:
        """Iteration i; returns its loss. Raises ValueError where that is not finite.

        together : all images in one batch, padded to each other
        """
        for group in self.optimiser.param_groups:
            group["lr"] = PEER["learning_rate"] * loop.rate(i, self._setup.train)
        random = loop.generator(self._setup.params["seed"], f"{ROW} torchvision samples", i)
        torch.manual_seed(int(random.integers(2**31)))
        self.optimiser.zero_grad()
        total = 0.0
        for part in [examples] if together else [[example] for example in examples]:
            loss = sum(self.model(*map(list, zip(*part, strict=True))).values()) * (len(part) / len(examples))
            loss.backward()
            total += loss.item()
        if not np.isfinite(total):
            raise ValueError(f"torchvision's loss is {total} at iteration {i}")
        nn.utils.clip_grad_norm_(self._parameters, PEER["clip_norm"])
        self.optimiser.step()
        return total

    def train(self) -> None:
        """From the kept state to the last iteration."""
        self.resume()
        began = saved = time.perf_counter()
        before = self.seconds
        todo = range(self.done, self._setup.train.iterations)
        self.origin = origin() if todo else self.origin
        for i, examples in zip(todo, ahead(self.batch, todo), strict=True):
            loss = self.step(i, examples)
            self.done, now = i + 1, time.perf_counter()
            self.seconds = before + now - began
            if now - saved > SAVE_S or self.done == todo.stop:
                self.save()
                saved = now
                print(f"torchvision: {self.done} of {self._setup.train.iterations} iterations, loss {loss:.3f}, "
                      f"{self.seconds / self.done:.2f} s each, {self.peak_mib:.0f} MiB", flush=True)

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        self.peak_mib = max(self.peak_mib, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        checkpoint.save(self._setup.folder / "peer.pt", {
            "trunk": self.trunk.state_dict(), "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "done": self.done, "seconds": self.seconds, "peak_mib": self.peak_mib, "origin": self.origin,
        })

    def resume(self) -> None:
        """Reads the state where there is one."""
        path = self._setup.folder / "peer.pt"
        if not path.exists():
            return
        state = checkpoint.load(path, "trunk", "model", "optimiser", "done", "seconds", "peak_mib", "origin")
        self.trunk.load_state_dict(state["trunk"])
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        for parameter, moments in self.optimiser.state.items():  # fused, it takes all tensors for flat arrays
            moments.update({
                name: torch.empty_like(parameter).copy_(value)
                for name, value in moments.items() if value.shape == parameter.shape
            })
        self.done, self.seconds = state["done"], state["seconds"]
        self.peak_mib, self.origin = state["peak_mib"], state["origin"]

    def at_test(self) -> Callable[[np.ndarray], Detections]:
        """From an image uint8 (H, W, 3) to boxes float32 (D, 4), labels int64 (D,) from 0 and scores float32 (D,)."""
        backbone = model_file.read(self._setup.folder / "m0.pt").backbone
        folded = fold_batch_norm(self.trunk).to(  # type: ignore[call-overload]
            self._setup.device.torch_device, memory_format=torch.channels_last
        )
        model = torchvisions(self._setup, backbone, folded.forward, len(self._images.classes)).eval()
        model.load_state_dict(self.model.state_dict())
        device = self._setup.device

        def run(image: np.ndarray) -> Detections:
            with torch.inference_mode():
                detected = device.fetch(model([pixels(image, device)])[0])
            boxes = clip(detected["boxes"], image.shape[1], image.shape[0])
            return boxes, detected["labels"] - 1, detected["scores"]

        return run


def detect(setup: Setup, run: Callable[[np.ndarray], Detections]) -> Path:
    """The table of the peer's detections on the test split, made piece by piece; those that are there are kept."""
    images, pieces = setup.images("test"), []
    for number, ids in enumerate(tables.chunks(images.ids, PIECE)):
        path = setup.folder / f"detections/{number:05d}.parquet"
        pieces.append(path)
        if path.exists():
            continue
        frames = []
        for image_id in ids:
            boxes, labels, scores = run(images.image(image_id))
            frame = pd.DataFrame(boxes, columns=tables.BOX).assign(score=scores, image_id=image_id)
            frames.append(frame.assign(**{"class": [images.classes[label] for label in labels]}))
        tables.write(path, pd.concat(frames, ignore_index=True), tables.DETECTIONS)
    whole = setup.folder / "detections.parquet"
    tables.write(whole, pd.concat([tables.read(path, tables.DETECTIONS) for path in pieces]), tables.DETECTIONS)
    return whole


def score(setup: Setup, detections: Path) -> dict[str, Any]:
    """The headline numbers, as the stage `evaluate` computes them."""
    settings = setup.params["evaluate"]
    scored = inputs.read(detections, setup.folder / "tables/objects.parquet", setup.params["splits"].test)
    scores = report.score_inputs(scored, settings.iou, settings.max_detections, levels=settings.levels)
    return report.metrics(scores)


def peer_figures(setup: Setup) -> dict[str, Any]:
    """Trains torchvision's detector, runs it on the test split, and scores it."""
    peer = Peer(setup)
    peer.train()
    metrics = score(setup, detect(setup, peer.at_test()))
    return {
        **metrics, "iterations": peer.done, "training_s": round(peer.seconds, 1), "norm": setup.norm,
        "peak_memory_mib": round(peer.peak_mib), "torchvision": torchvision.__version__,
        **peer.origin,
    }


def origin() -> dict[str, str]:
    """Where figures that are measured now come from."""
    return {"commit": preset.commit(ROOT), "processor": preset.processor()}


def stale(name: str, home: Path) -> bool:
    """True where `home`, of results/presets, has no figures of the row, or its code, command or params are others."""
    rows = home / "rows.json"
    recorded = tables.read_json(rows).get(ROW) if rows.exists() else None
    return recorded is None or preset.digest(ROW, pipeline.entries(), overlay.values(name)) != recorded["code"]


def our_figures(name: str, root: str | None) -> dict[str, Any]:
    """The figures of the preset's row, which is run where they are stale.  root : of the data; None: the preset's"""
    home = HOMES / name
    words = [sys.executable, "-m", "tools.preset", name, ROW, *(["--root", root] if root else [])]
    if stale(name, home) and (code := subprocess.run(words, check=False).returncode):
        sys.exit(code)  # it has said why
    cost, origin = tables.read_json(home / f"cost/{ROW}.json"), tables.read_json(home / "rows.json")[ROW]
    return {
        **tables.read_json(home / f"{ROW}.json"), "training_s": cost["seconds"],
        "peak_memory_mib": cost["peak_memory_mib"], "commit": origin["commit"], "processor": origin["processor"],
    }


def our_task(setup: Setup) -> Task:
    """Our joint training, as stages/train.py makes it."""
    images = setup.images("train", setup.params["faster.difficult"])
    return train_joint.task(Given(
        ROW, BLOCK, "faster", setup.params, setup.params["seed"], images, lambda role: setup.folder / "m0.pt",
        {"model"}, setup.device, setup.memory,
    ))


def step_times(setup: Setup, rounds: int, threads: int) -> dict[str, Any]:
    """`STEPS` steps of ours and of theirs in turns on the same images: seconds of one, and the median of the ratios.

    Theirs run while our loop waits for its next iteration, so neither starts anew.
    """
    torch.set_num_threads(threads)
    task, peer = our_task(setup), Peer(setup)
    phase, *_ = task.phases()
    count = STEPS * (rounds + WARM_UP)
    settings = phase.settings.model_copy(update={"iterations": count, "checkpoint_every": count + 1})
    theirs = enumerate(ahead(peer.batch, range(count)))
    seconds: tuple[list[float], list[float]] = ([], [])

    def progress(todo: Iterable[int], done: int) -> Iterator[int]:
        began = time.perf_counter()
        for i in todo:
            yield i
            if i % STEPS == STEPS - 1:
                ended = time.perf_counter()
                for _ in range(STEPS):
                    peer.step(*next(theirs))
                setup.device.synchronise()
                for taken, value in zip(seconds, (ended - began, time.perf_counter() - ended), strict=True):
                    taken.append(value / STEPS)
                began = time.perf_counter()

    with tempfile.TemporaryDirectory() as scratch:
        loop.train(
            task.network, phase.fresh, phase.batch, phase.losses, settings, setup.device, setup.params["seed"], ROW,
            Path(scratch), progress,
        )
    return {**compared(*(taken[WARM_UP:] for taken in seconds), unit="s"), "rounds": rounds, "steps": STEPS}


def test_times(setup: Setup, images: int, trained: Path | None) -> dict[str, Any]:
    """Test images, ours and theirs in turns on one thread: milliseconds, and the median of the ratios.

    trained : our model; used with the peer's own where both are there, else both are fresh and score background
              high, as trained ones do, so that few boxes reach the last NMS
    """
    torch.set_num_threads(1)
    peer, task = Peer(setup), our_task(setup)
    peer.resume()
    models = "trained" if trained and peer.done == setup.train.iterations else "fresh"
    with tempfile.TemporaryDirectory() as folder:
        if models == "fresh":
            peer, trained = Peer(setup), Path(folder) / "fresh.pt"
            with torch.no_grad():
                for layer in (task.network.detector.head.score, peer.model.roi_heads.box_predictor.cls_score):
                    layer.bias[0] = 5
            checkpoint.save(trained, dict(task.sections()))
        settings = setup.params["faster.detect"]
        detector = detector_module.Detector(
            {"regions": trained, "model": trained}, settings, setup.params["faster.propose.test"], setup.device, Clock()
        )
    floor = -np.inf if settings.floor is None else settings.floor

    def ours(image: np.ndarray) -> object:
        boxes, scores, refine = detector(detector.prepare(image))[:3]
        rows, labels = np.nonzero(scores > floor)
        return nms_per_class(refine(rows, labels, boxes[rows]), scores[rows, labels], labels, settings.nms)

    theirs, tests = peer.at_test(), setup.images("test")
    # Spread over the split: images of a folder may be alike.
    ids = [tests.ids[i] for i in np.linspace(0, len(tests) - 1, min(images, len(tests))).round().astype(int)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for image_id in [*(ids * WARM_UP)[:WARM_UP], *ids]:
        image = tests.image(image_id)
        for taken, run in zip(seconds, (ours, theirs), strict=True):
            began = time.perf_counter()
            run(image)
            taken.append(time.perf_counter() - began)
    milliseconds = [[1000 * value for value in taken[WARM_UP:]] for taken in seconds]
    return {**compared(*milliseconds, unit="ms"), "images": len(ids), "models": models}


def compared(ours: list[float], theirs: list[float], unit: str) -> dict[str, Any]:
    """Medians of both, and of their ratios."""
    return {
        "ratio": statistics.median(mine / peers for mine, peers in zip(ours, theirs, strict=True)),
        f"ours_{unit}": statistics.median(ours), f"torchvision_{unit}": statistics.median(theirs),
    }


def publish(path: Path, part: str, figures: Mapping[str, Any]) -> None:
    """Writes a part of the result, `ours`, `torchvision` or `times`, and what follows from it; the others stay."""
    earlier = tables.read_json(path) if path.exists() else {}
    parts = {name: earlier[name] for name in ("ours", "torchvision", "times") if name in earlier}
    parts[part] = figures
    result: dict[str, Any] = {"what": (__doc__ or "").split("\n")[0]}
    if "times" in parts:
        result |= {f"ratio_{name}": parts["times"][name]["ratio"] for name in ("step", "test")}
    if {"ours", "torchvision"} <= set(parts):
        result["difference_voc10"] = parts["ours"]["voc10_map"] - parts["torchvision"]["voc10_map"]
    result |= {"differences": DIFFERENCES, **parts}
    tables.write_json(path, result)


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("ours", "peer", "times"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--preset", default="voc2007-cpu", help="of presets/")
    parser.add_argument("--root", default=SHARED if Path(SHARED).exists() else None, help="folder of the data set")
    parser.add_argument("--norm", choices=NORMS, default="trained", help="scale and shift of the peer's batch norm")
    parser.add_argument("--rounds", type=int, default=16, help=f"of {STEPS} steps; three times as many test images")
    parser.add_argument("--threads", type=int, default=2, help="and cores, of a step")
    parser.add_argument("--out", type=Path, default=RESULT, help="file for the figures")
    options = parser.parse_args()
    if not (options.ours or options.peer or options.times):
        words = [sys.executable, "-m", "benchmarks.voc", *sys.argv[1:]]
        codes = [subprocess.run([*words, flag], check=False).returncode for flag in ("--ours", "--peer", "--times")]
        return int(any(codes))
    try:
        values = overlay.apply(overlay.values(options.preset), preset.at_root(options.root), "--root")
        if not Path(values["data"]["root"]).exists():
            print(f"{values['data']['root']} is not here: nothing to measure.")
            return 0
        if options.ours:
            publish(options.out, "ours", our_figures(options.preset, options.root))
        if options.peer or options.times:
            setup = set_up(values, pick_device("cpu", "float32", training=True), options.norm)
        if options.peer:
            publish(options.out, "torchvision", peer_figures(setup))
        if options.times:
            stay_on(options.threads)
            model = ROOT / f".scratch/presets/{options.preset}/data/models/{ROW}/joint.pt"
            trained = model if model.exists() and not stale(options.preset, HOMES / options.preset) else None
            times = {
                **origin(), "step": step_times(setup, options.rounds, options.threads),
                "test": test_times(setup, 3 * options.rounds, trained),
                "threads": {"step": options.threads, "test": 1}, "precision": "float32", "norm": options.norm,
                "torch": torch.__version__, "torchvision": torchvision.__version__,
            }
            publish(options.out, "times", times)
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    print(json.dumps(tables.read_json(options.out), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
