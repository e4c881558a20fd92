"""The extract stage's loop against the bare network on the same crops: what decoding, warping and writing cost.

    python -m benchmarks.extraction [--images 48] [--block 6] [--device cpu]

Ours is what stages.extract does with an image: read and decode it, warp its regions, normalise, run the network, write
half-precision rows. The peer runs the network alone, folded and channels-last as ours is, on crops that are normalised
and on the device, in the same number of threads and the same batches. Both take turns, block by block of images, and
who begins alternates. `ratio` is the median over the blocks of ours / bare, wall clock. Reads the finished default run
in data/; without one it says so. Prints a line and writes results/benchmarks/extraction.json.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.selective_search import ROOT, machine
from lib.backbones import backbones
from lib.backbones.device import Device, pick_device
from lib.backbones.inference import fold_batch_norm
from lib.detectors.rcnn import network as rcnn
from lib.images.image_set import ImageSet, Splits
from lib.images.warp import Crops, Uncut
from lib.parallel.processes import workers
from lib.stage import params
from lib.storage import checkpoint, shards, tables
from lib.storage.by_image import ByImage
from stages.extract import Extract

DIFFERENCES = [
    "ours decodes, warps and normalises the regions of each image; the bare network has them in memory",
    "ours takes the softmax and writes rows in half precision; the bare network drops its outputs",
]
RESULT = ROOT / "results/benchmarks/extraction.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48, help="training images, spread over the split")
    parser.add_argument("--block", type=int, default=6, help="images in a turn")
    parser.add_argument("--device", help="as compute.device, which is the default")
    parser.add_argument("--out", type=Path, default=RESULT, help="file for the figures")
    arguments = parser.parse_args()
    wanted = {"rcnn.extract": Extract, "rcnn.crop": rcnn.Crop, "rcnn.difficult": bool, "splits": Splits,
              "proposals.table": str, "data.root": str, "compute": params.Compute}
    values = params.validate(params.load(), wanted)
    settings, compute = values["rcnn.extract"], values["compute"]
    if not Path("data/models/m0.pt").exists() or not Path(values["proposals.table"]).exists():
        print("data/ holds no run: dvc repro propose m0, then again.")
        return 0
    image_set = ImageSet(values["data.root"], Path("data/tables"), values["splits"].train, values["rcnn.difficult"])
    proposals = ByImage(Path(values["proposals.table"]), tables.PROPOSALS)
    device, threads = pick_device(arguments.device or compute.device, settings.precision), workers(compute)
    positions = np.linspace(0, len(image_set) - 1, min(arguments.images, len(image_set))).astype(int)
    ids = [image_set.ids[position] for position in positions]
    regions = {image_id: image_set.regions(image_id, proposals) for image_id in ids}
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        model = model_file(Path(folder), values["rcnn.crop"], image_set.classes)
        extractor = rcnn.Extractor(model, device, settings.batch)
        network = extractor.network.to(device.torch_device)
        fast = fold_batch_norm(network).to(device.torch_device, memory_format=torch.channels_last)
        rows = (shards.Rows({name: np.ones(len(regions[image_id]), bool) for name in extractor.widths})
                for image_id in ids)
        plan = shards.plan(ids, rows, extractor.widths, settings.shard_mib * 2**20)
        writer = shards.Writer(Path(folder) / "features", plan, extractor.widths)

        def prepare(image_id: str) -> Crops | Uncut:
            return extractor.prepare(image_set.image(image_id), regions[image_id])

        def features(crops: Crops | Uncut) -> dict[str, np.ndarray]:
            return extractor.features(crops, torch.float16)

        def bare(batches: list[Tensor]) -> None:
            with torch.inference_mode(), device.autocast():
                for batch in batches:
                    fast(batch)
            device.synchronise()

        def run_ours(block: list[str]) -> None:
            for rows in device.in_order(prepare, features, block, threads):
                writer.append(rows)

        for turn, block in enumerate([ids[:2], *tables.chunks(ids, arguments.block)]):
            inputs = [
                list(network.prepare(crops, device).split(settings.batch))
                for crops in (network.cut(image_set.image(image_id), regions[image_id]) for image_id in block)
            ]
            turns: list[tuple[str, Callable[[], object]]] = [
                ("ours", lambda block=block: run_ours(block)),
                ("bare", lambda inputs=inputs: list(device.in_order(list, bare, inputs, threads))),
            ]
            if turn == 0:  # warms caches and kernels; the store's plan has no device for these rows
                list(device.in_order(prepare, features, block, threads))
                turns[1][1]()
                continue
            for name, work in turns if turn % 2 else reversed(turns):
                began = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - began)
        writer.close()
    report(arguments, seconds, sum(map(len, regions.values())), len(ids), threads, settings, device)
    return 0


def model_file(folder: Path, crop: rcnn.Crop, classes: list[str]) -> Path:
    """The fine-tuned network of the run, or M0 with a fresh classifier: the same work for a processor."""
    if Path("data/models/rcnn/cnn.pt").exists():
        return Path("data/models/rcnn/cnn.pt")
    backbone = backbones.restore(checkpoint.load(Path("data/models/m0.pt"), "backbone", "recipe", "tensors"))
    checkpoint.save(folder / "cnn.pt", rcnn.describe(rcnn.RcnnNetwork(backbone, classes, crop)))
    return folder / "cnn.pt"


def report(
    arguments: argparse.Namespace, seconds: dict[str, list[float]], regions: int, images: int, threads: int,
    settings: Extract, device: Device,
) -> None:
    """Prints the ratio and writes the file."""
    ratios = np.array(seconds["ours"]) / np.array(seconds["bare"])
    total = {name: sum(times) for name, times in seconds.items()}
    result = {
        "what": (__doc__ or "").split("\n")[0], "machine": machine(), "threads": threads, "batch": settings.batch,
        "precision": str(device.dtype).removeprefix("torch."), "device": device.torch_device.type,
        "differences": DIFFERENCES, "images": images, "regions": regions, "images_in_a_turn": arguments.block,
        "ratio": float(np.median(ratios)), "p90": float(np.percentile(ratios, 90)),
        "ratio_of_totals": total["ours"] / total["bare"],
        "ms_per_region": {name: 1000 * time / regions for name, time in total.items()},
    }
    tables.write_json(arguments.out, result)
    print(f"ratio {result['ratio']:.3f} (p90 {result['p90']:.3f}), ms per region {result['ms_per_region']}")
    print("differences:", *DIFFERENCES, sep="\n  ")


if __name__ == "__main__":
    raise SystemExit(main())
