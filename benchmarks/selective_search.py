"""Our selective search against OpenCV contrib's: time, boxes and what they cover, image by image on one core.

    python -m benchmarks.selective_search [--modes fast single quality] [--limit 85] [--skip-large]

Both search the same images at a width of 500 pixels, in turns, in two processes on the same core; OpenCV
with the settings that its modes come with. Prints a table and writes results/benchmarks/selective_search.json; modes
that are not measured keep their figures there. OpenCV is installed into .venv-opencv on the first run.
"""

import argparse
import io
import json
import os
import platform
import resource
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

DIFFERENCES = [
    "settings are those of the modes: fast has k = 50, 100 in HSV and Lab in ours, 150, 300, 450 in OpenCV's",
    "ours drops boxes with a side below 20 pixels; OpenCV keeps them",
]
ROOT = Path(__file__).resolve().parents[1]
ROOMS = ROOT.parent / "shared/data/rooms"
RESULT = ROOT / "results/benchmarks/selective_search.json"
PEER = ROOT / ".venv-opencv"
WIDTH = 500
VOC = {
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
}
SWITCH = {
    "single": "switchToSingleStrategy", "fast": "switchToSelectiveSearchFast",
    "quality": "switchToSelectiveSearchQuality",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=list(SWITCH), default=list(SWITCH))
    parser.add_argument("--limit", type=int, default=None, help="the first so many images only")
    parser.add_argument("--skip-large", action="store_true", help="leave out the image of 3000 x 2000")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return serve_peer()
    if not ROOMS.exists():
        print(f"{ROOMS} is not here: nothing to measure.")
        return 0
    if arguments.large:
        return measure_large()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {"modes": {}}
    result |= {"what": __doc__.split("\n")[0], "machine": machine(), "differences": DIFFERENCES}
    stay_on(1)
    for mode in arguments.modes:
        result["modes"][mode] = compare(mode, arguments.limit)
    for mode, figures in result["modes"].items():
        result["ratio" if mode == "fast" else f"ratio_{mode}"] = figures["ratio"]
    if not arguments.skip_large:
        run = subprocess.run([sys.executable, __file__, "--large"], stdout=subprocess.PIPE, check=True, cwd=ROOT)
        result["large"] = json.loads(run.stdout.splitlines()[-1])
    result |= {name: result["modes"]["fast"][name] for name in ("p90", "boxes", "abo", "recall_50", "recall_70")
               if "fast" in result["modes"]}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for mode, figures in result["modes"].items():
        print(f"{mode:8} ratio {figures['ratio']:.3f} (p90 {figures['p90']:.3f})", end="")
        for name in ("ms", "boxes", "abo", "recall_50", "recall_70"):
            print(f"  {name} {figures[name]['ours']:.4g} / {figures[name]['opencv']:.4g}", end="")
        print(f"  ({figures['images']} images, {figures['objects']} objects)")
    print("3000 x 2000:", result.get("large"))
    print("differences:", *DIFFERENCES, sep="\n  ")
    return 0


def compare(mode: str, limit: int | None) -> dict[str, Any]:
    """Times, boxes and recall of both in one mode. `ratio` is the median over the images of ours / OpenCV's."""
    from lib.proposals.recall import Recall
    from lib.selective_search.selective_search import search, warm_up

    warm_up()
    recall = {who: {what: Recall() for what in ("voc", "all")} for who in ("ours", "opencv")}
    seconds: dict[str, list[float]] = {"ours": [], "opencv": []}
    with Peer() as peer:
        for image, boxes, classes in image_set(limit):
            began = time.perf_counter()
            ours, _ = search(image, mode=mode)
            seconds["ours"].append(time.perf_counter() - began)
            theirs, elapsed = peer.search(image, mode)
            seconds["opencv"].append(elapsed)
            in_voc = [i for i, name in enumerate(classes) if name in VOC]
            for who, proposals in (("ours", ours), ("opencv", theirs)):
                recall[who]["all"].add(proposals, boxes, classes)
                recall[who]["voc"].add(proposals, boxes[in_voc], [classes[i] for i in in_voc])
    ratios = np.array(seconds["ours"]) / np.array(seconds["opencv"])
    metrics = {who: {what: r.metrics() for what, r in both.items()} for who, both in recall.items()}
    figures: dict[str, Any] = {
        "ratio": float(np.median(ratios)), "p90": float(np.percentile(ratios, 90)),
        "ratio_of_medians": float(np.median(seconds["ours"]) / np.median(seconds["opencv"])),
        "images": len(ratios), "objects": metrics["ours"]["voc"]["objects"],
        "ms": {who: 1000 * float(np.median(times)) for who, times in seconds.items()},
        "boxes": {who: m["voc"]["boxes_per_image"] for who, m in metrics.items()},
    }
    for name in ("abo", "mabo", "recall_50", "recall_70"):
        figures[name] = {who: m["voc"][name] for who, m in metrics.items()}
        figures[f"{name}_all_objects"] = {who: m["all"][name] for who, m in metrics.items()}
    figures["against_boxes"] = {who: both["voc"].against_boxes() for who, both in recall.items()}
    return figures


def image_set(limit: int | None) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """uint8 RGB images of `WIDTH` pixels, float32 (S, 4) half-open boxes of their objects, S classes."""
    import cv2

    for path in sorted((ROOMS / "Annotations").glob("*.xml"))[:limit]:
        original = cv2.imread(str(ROOMS / "JPEGImages" / f"{path.stem}.jpg"))
        scale = WIDTH / original.shape[1]
        size = WIDTH, round(original.shape[0] * scale)
        objects = list(ET.parse(path).getroot().iter("object"))
        corners = [
            [float(element.findtext(f"bndbox/{name}") or "nan") for name in ("xmin", "ymin", "xmax", "ymax")]
            for element in objects
        ]
        boxes = np.array(corners, np.float32).reshape(-1, 4) - np.float32([1, 1, 0, 0])
        image = cv2.cvtColor(cv2.resize(original, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        yield image, boxes * np.float32(scale), [element.findtext("name") or "" for element in objects]


class Peer:
    """OpenCV's search in a process of its own environment, which reads images and answers with boxes."""

    def __enter__(self) -> "Peer":
        python = PEER / "bin/python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True)
            requirements = ROOT / "benchmarks/requirements-opencv.txt"
            subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(requirements)], check=True)
        self._process = subprocess.Popen(
            [str(python), __file__, "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def search(self, image: np.ndarray, mode: str) -> tuple[np.ndarray, float]:
        """float32 (R, 4) half-open boxes in OpenCV's order, and the seconds that it took."""
        assert self._process.stdin
        assert self._process.stdout
        send(self._process.stdin, np.array(mode), image)
        boxes, elapsed = receive(self._process.stdout)
        boxes = boxes.astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        return boxes, float(elapsed)

    def __exit__(self, *error: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()


def serve_peer() -> int:
    """Runs in the peer's environment: reads mode and image, writes boxes (x y w h) and seconds, until the end."""
    import cv2

    cv2.setNumThreads(1)
    while message := receive(sys.stdin.buffer):
        mode, image = message
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        began = time.perf_counter()
        searching = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        searching.setBaseImage(bgr)
        getattr(searching, SWITCH[str(mode)])()
        boxes = searching.process()
        send(sys.stdout.buffer, boxes, np.array(time.perf_counter() - began))
    return 0


def send(stream: BinaryIO | Any, *arrays: np.ndarray) -> None:
    """Writes arrays behind the length of their bytes; a pipe has no end of file between two messages."""
    message = io.BytesIO()
    np.savez(message, *arrays)
    stream.write(message.tell().to_bytes(8, "little") + message.getvalue())
    stream.flush()


def receive(stream: BinaryIO | Any) -> list[np.ndarray]:
    """The arrays that `send` wrote; none at the end of the stream."""
    length = int.from_bytes(stream.read(8), "little")
    return list(np.load(io.BytesIO(stream.read(length))).values()) if length else []


def measure_large() -> int:
    """Fast mode at full size on 3000 x 2000 pixels of images laid side by side: seconds and peak memory."""
    import cv2

    from lib.selective_search.selective_search import search, warm_up

    warm_up()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    paths = sorted((ROOMS / "JPEGImages").glob("*.jpg"))[:25]
    rows = [np.hstack([cv2.imread(str(path)) for path in paths[i : i + 5]]) for i in range(0, 25, 5)]
    image = np.ascontiguousarray(np.vstack(rows)[:2000, :3000, ::-1])
    began = time.perf_counter()
    boxes, _ = search(image)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {"seconds": seconds, "boxes": len(boxes), "peak_mb": peak / 1024, "peak_before_mb": before / 1024}
    print(json.dumps(figures))
    return 0


def stay_on(cores: int) -> None:
    """Keeps this process, and those that it starts, on the last so many cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-cores:]))


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    model = next(names, platform.processor())
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


if __name__ == "__main__":
    # Run as a file, by the worker's interpreter too, the repository's root is not on the path.
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main())
