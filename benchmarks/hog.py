"""Our histograms of oriented gradients against OpenCV's HOGDescriptor, level by level on one core.

    python -m benchmarks.hog [--limit 40] [--rounds 5]

Both describe the same images, in turns, in two processes on the same core: blocks of 16 pixels, a block every 8. Prints
what they take, and how far our numbers are from OpenCV's and from scikit-image's where ours follow theirs. Writes
results/benchmarks/hog.json. Both peers are installed into .venv-opencv on the first run.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, by the worker's interpreter too

from benchmarks.selective_search import PEER, ROOMS, ROOT, image_set, machine, receive, send, stay_on

DIFFERENCES = [
    "both return all blocks of a level; ours row by row, OpenCV's column by column",
    "ours has the window of OpenCV, sigma 4 and half a pixel off the centre, and its epsilons",
    "OpenCV's angles are a fast approximation: numbers differ by up to 6e-4",
    "scikit-image's are compared in its own mode, hard votes without a window, and not timed",
]
RESULT = ROOT / "results/benchmarks/hog.json"
PAPER: dict[str, Any] = {
    "name": "dalal_triggs", "cell": 8, "colour": "rgb", "gamma": "none", "smoothing": 0.0, "block": 2, "bins": 9,
    "signed": False, "votes": "soft", "window": 0.5, "norm": "l2hys", "clip": 0.2, "epsilon": 3.6,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=40, help="the first so many images (40)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is described; the fastest counts (5)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return serve_peers()
    if not ROOMS.exists():
        print(f"{ROOMS} is not here: nothing to measure.")
        return 0
    stay_on(1)
    result = {"what": __doc__.split("\n")[0], "machine": machine(), "differences": DIFFERENCES}
    result |= compare(arguments.limit, arguments.rounds)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0


def compare(limit: int, rounds: int) -> dict[str, Any]:
    """`ratio` is the median over the images of ours / OpenCV's, in processor time, the fastest of the rounds."""
    import cv2

    from lib.detectors.hog.features import DalalTriggs, Layout, profile

    cv2.setNumThreads(1)
    ours = DalalTriggs(**PAPER)
    opencv = Layout(profile(8, 2, True, (4.0, 8.0)), (0.0, 0.0), (3.6, 0.001))
    hard = DalalTriggs(**{**PAPER, "votes": "hard", "window": None})
    scikit_image = Layout(profile(8, 2, False, None), ((64 * 1e-5) ** 2, 1e-10), (0.0, 0.0))
    seconds: dict[str, list[float]] = {"ours": [], "opencv": []}
    apart: dict[str, list[float]] = {"opencv": [], "scikit_image": []}
    ours(np.zeros((32, 32, 3), np.uint8))  # compiles
    process = start()
    assert process.stdin
    assert process.stdout
    for image, _, _ in image_set(limit):
        level = np.ascontiguousarray(image[: image.shape[0] // 8 * 8, : image.shape[1] // 8 * 8])
        times: dict[str, list[float]] = {"ours": [], "opencv": []}
        for number in range(rounds):
            began = time.thread_time()
            blocks = ours(level, opencv)
            times["ours"].append(time.thread_time() - began)
            send(process.stdin, level, np.array(number == 0))
            theirs, numbers, elapsed = receive(process.stdout)
            times["opencv"].append(float(elapsed))
            if number == 0:
                apart["opencv"].append(float(np.abs(blocks - theirs).max()))
                apart["scikit_image"].append(float(np.abs(hard(level, scikit_image) - numbers).max()))
        for who, own in times.items():
            seconds[who].append(min(own))
    process.stdin.close()
    process.wait()
    ratios = np.array(seconds["ours"]) / np.array(seconds["opencv"])
    return {
        "ratio": float(np.median(ratios)), "p90": float(np.percentile(ratios, 90)), "images": len(ratios),
        "ms": {who: 1000 * float(np.median(own)) for who, own in seconds.items()},
        "largest_difference": {who: max(own) for who, own in apart.items()},
    }


def start() -> "subprocess.Popen[bytes]":
    """The peers, in a process of their own environment."""
    python, requirements = PEER / "bin/python", ROOT / "benchmarks/requirements-opencv.txt"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(requirements)], check=True)
    return subprocess.Popen([str(python), __file__, "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def serve_peers() -> int:
    """Runs in the peers' environment: reads a level, and whether scikit-image is to describe it too; writes OpenCV's
    blocks and scikit-image's, in our order, and OpenCV's seconds; until the end.

    OpenCV takes the first of equal channels, as ours does: so it gets them in our order, and calls red blue.
    """
    import cv2
    from skimage.feature import hog

    cv2.setNumThreads(1)
    while message := receive(sys.stdin.buffer):
        level, both = message
        height, width = level.shape[:2]
        descriptor = cv2.HOGDescriptor((width, height), (16, 16), (8, 8), (8, 8), 9, 1, -1, 0, 0.2, False, 64)
        began = time.thread_time()
        values = descriptor.compute(level)
        elapsed = time.thread_time() - began
        columns, rows = width // 8 - 1, height // 8 - 1
        blocks = values.reshape(columns, rows, 2, 2, 9).transpose(1, 0, 3, 2, 4).reshape(rows, columns, 36)
        numbers = np.zeros(0)
        if both:
            numbers = hog(
                level, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2), channel_axis=2,
                feature_vector=False,
            ).reshape(rows, columns, 36)
        send(sys.stdout.buffer, blocks, numbers, np.array(elapsed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
