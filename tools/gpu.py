"""What a GPU makes of all this, in one file and at most 20 minutes: what `make gpu` calls.

    python -m tools.gpu [--device cuda] [--rounds 6] [--minutes 20]

Runs the tests marked gpu, which compare it with the CPU; the benchmarks of networks; and the tests' tiny pipeline, in a
copy in .scratch/gpu. Writes results/benchmarks/gpu.json. Ends with 2 where there is no such GPU, with 1 where any of
these fails or does not end in time. (`--device cpu` goes the same way into .scratch/gpu/gpu.json, to test it.)
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lib.backbones.device import gpus_here
from lib.stage.errors import Fault
from lib.storage import tables
from tests.pipeline.conftest import ROOT, TINY, copy_repository

RESULT = ROOT / "results/benchmarks/gpu.json"
SCRATCH = ROOT / ".scratch/gpu"
# Name -> further words; extraction reads the finished run in data/ and measures nothing without one.
BENCHMARKS = {
    "faster": ["--rounds"], "detector_step": ["--rounds"], "sharing": ["--rounds"], "networks": ["--seconds"],
    "extraction": ["--block"],
}


class Runner:
    """Runs commands one after another until the time is over; `failed` names those that ended otherwise than with 0."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.failed: list[str] = []

    def __call__(
        self, name: str, words: Sequence[str], environment: Mapping[str, str] = os.environ, folder: Path = ROOT
    ) -> None:
        print(f"== {name}", flush=True)
        left = max(self._end - time.monotonic(), 1)
        try:
            if subprocess.run(words, cwd=folder, env=environment, check=False, timeout=left).returncode:
                self.failed.append(name)
        except subprocess.TimeoutExpired:
            self.failed.append(f"{name}: out of time")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="as compute.device")
    parser.add_argument("--rounds", type=int, default=6, help="of each benchmark")
    parser.add_argument("--minutes", type=float, default=20)
    options = parser.parse_args()
    gpus = gpus_here()
    if options.device not in ("cpu", *gpus):
        problem = f"is {options.device!r}, and torch {torch.__version__} finds {', '.join(gpus) or 'no GPU'}"
        remedy = "Run it where torch finds one; `make test` needs none"
        print(f"ERROR: {Fault('no GPU', '--device', problem, ', '.join(gpus), remedy)}", file=sys.stderr)
        return 2
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    run = Runner(60 * options.minutes)
    result = {
        "what": "Tests, benchmarks and the tests' tiny pipeline on one device", "machine": machine(options.device),
        "tests": tests(run, options.device), "benchmarks": benchmarks(run, options.device, options.rounds),
        "pipeline": pipeline(run, options.device), "failed": run.failed,
    }
    target = SCRATCH / "gpu.json" if options.device == "cpu" else RESULT
    tables.write_json(target, result)
    print(f"{target.relative_to(ROOT)}; failed: {', '.join(run.failed) or 'nothing'}")
    return 1 if run.failed else 0


def machine(device: str) -> dict[str, str]:
    """The device's name, and what drives it."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {"device": device, "name": name, "torch": torch.__version__, "cuda": torch.version.cuda or ""}


def tests(run: Runner, device: str) -> dict[str, int]:
    """How many tests ran, failed, were skipped."""
    report = SCRATCH / "tests.xml"
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
    run("tests", words, {**os.environ, "TEST_DEVICE": device})
    return counts(report)


def counts(report: Path) -> dict[str, int]:
    """The numbers of a JUnit file; none where there is no such file."""
    if not report.exists():
        return {}
    suites = list(ET.parse(report).iter("testsuite"))
    return {key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}


def benchmarks(run: Runner, device: str, rounds: int) -> dict[str, Any]:
    """The file of each benchmark; None where it measured nothing."""
    results = {}
    for name, words in BENCHMARKS.items():
        out = SCRATCH / f"{name}.json"
        counted = [*words, str(rounds)]
        run(name, [sys.executable, "-m", f"benchmarks.{name}", "--device", device, "--out", str(out), *counted])
        results[name] = tables.read_json(out) if out.exists() else None
    return results


def pipeline(run: Runner, device: str) -> dict[str, Any]:
    """Seconds of each stage of the tiny pipeline, and VOC 2007's mAP of each method, of 0 to 1."""
    copy = copy_repository(SCRATCH / "tiny")
    copy.set_params({**TINY, "compute": {"device": device}})
    run("pipeline", ["dvc", "repro"], copy.environment(), copy.folder)
    results = copy.folder / "results"
    return {
        "seconds": {path.stem: tables.read_json(path)["seconds"] for path in sorted((results / "cost").glob("*.json"))},
        "voc07_map": {
            path.stem: tables.read_json(path)["voc07_map"] for path in sorted((results / "metrics").glob("*.json"))
        },
    }


if __name__ == "__main__":
    sys.exit(main())
