"""Peak memory of the stages that handle every image, at one and at four times as many images: it must not grow.

    python -m benchmarks.memory [--images 40] [--stages propose extract@rcnn detect@rcnn]

A copy of the working tree makes the digits set in both sizes and runs the pipeline of params.yaml on it with two
iterations of fine-tuning, each stage by `dvc repro`. Of a measured stage the peak resident size of its process and of
each of its workers is read while it runs; their sum is its peak. `ratio_STAGE` is that at 4x / 1x. Reads /proc, so it
runs on Linux only. Prints a table and writes results/benchmarks/memory.json.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from benchmarks.selective_search import ROOT, machine
from lib.stage import params
from lib.storage import tables
from tools.preset import bring, environment

RESULT = ROOT / "results/benchmarks/memory.json"
PROPOSALS = "data/proposals/selective_search.parquet"
PERIOD_S = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40, help="of train, val and test together, at 1x")
    parser.add_argument("--stages", nargs="+", default=["propose", "extract@rcnn", "detect@rcnn"], help="to measure")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("/proc is needed: nothing is measured here.")
        return 0
    peaks: dict[str, list[float]] = {name: [] for name in arguments.stages}
    sizes = [arguments.images, 4 * arguments.images]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        bring(ROOT, copy)
        subprocess.run(["git", "init", "--quiet"], cwd=copy, env=environment(), check=True)
        for images in sizes:
            write_params(copy, images)
            if images == sizes[0]:
                run(copy, "propose")  # compiles its kernels, which takes memory once
            (copy / PROPOSALS).unlink(missing_ok=True)  # so that nothing of an earlier run is reused
            for name in ("propose", "rcnn_finetune", "extract@rcnn", "svm@rcnn", "boxes@rcnn", "detect@rcnn"):
                peak = run(copy, name)
                if name in peaks:
                    peaks[name].append(peak / 2**20)
                    print(f"{name}, {images} images: {peak / 2**20:.0f} MiB", flush=True)
    result: dict[str, Any] = {
        "what": (__doc__ or "").split("\n")[0], "machine": machine(), "images": sizes,
        "peak_mib": {name: [round(peak, 1) for peak in both] for name, both in peaks.items()},
    }
    result |= {f"ratio_{name}": large / small for name, (small, large) in peaks.items()}
    result["ratio"] = max(large / small for small, large in peaks.values())
    tables.write_json(RESULT, result)
    print("  ".join(f"{key} {value:.3f}" for key, value in result.items() if key.startswith("ratio")))
    return 0


def write_params(copy: Path, images: int) -> None:
    """params.yaml of the copy: the digits set in this size, of which a fifth each is val and test."""
    values = params.load(ROOT / params.FILE)
    values["data"] |= {"root": "data/digits/VOCdevkit"}
    values["splits"] |= {"train": ["train", "val"], "test": ["test"]}
    values["digits"] |= {"train": images - 2 * (images // 5), "val": images // 5, "test": images // 5}
    values["rcnn"]["finetune"] |= {"iterations": 2}
    with open(copy / params.FILE, "w", encoding="utf-8") as file:
        YAML().dump(values, file)


def run(copy: Path, name: str) -> int:
    """Bytes: the sum of the peak resident sizes of one stage's processes; the stages that it needs have run before."""
    needed = {"propose": ["prepare", "m0"]}.get(name, [])
    if needed:
        subprocess.run(["dvc", "repro", *needed], cwd=copy, env=environment(), stdout=subprocess.DEVNULL, check=True)
    command = ["dvc", "repro", "--single-item", "--force", name]
    with tempfile.TemporaryFile("w+") as output:
        dvc = subprocess.Popen(command, cwd=copy, env=environment(), stdout=output, stderr=subprocess.STDOUT)
        peaks: dict[int, int] = {}
        while dvc.poll() is None:
            for pid in stage_processes(dvc.pid):
                peaks[pid] = max(peaks.get(pid, 0), peak_of(pid))
            time.sleep(PERIOD_S)
        if dvc.returncode:
            output.seek(0)
            raise RuntimeError(f"{name} failed:\n{output.read()}")
    return sum(peaks.values())


def stage_processes(dvc: int) -> list[int]:
    """The process `python -m stages.VERB` below dvc, and all below it."""
    try:
        below = psutil.Process(dvc).children(recursive=True)
        stages = [
            process for process in below
            if "-m" in (words := process.cmdline())[1:2] and words[2].startswith("stages.")
        ]
        return [process.pid for stage in stages for process in (stage, *stage.children(recursive=True))]
    except psutil.Error:
        return []


def peak_of(pid: int) -> int:
    """Bytes, 0 where the process is gone."""
    try:
        line = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return 1024 * int(line[1]) if line else 0


if __name__ == "__main__":
    raise SystemExit(main())
