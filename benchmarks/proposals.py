"""Reading the boxes of an image from a table of proposals, in random order, against pandas' read of its row group.

    python -m benchmarks.proposals [--images 10000] [--boxes 2000] [--reads 300]

Writes a table as the stages do and reads the boxes of random images from it, as training does: ours by `ByImage.boxes`,
the peer by pandas, which reads the row group of the image with all its columns and filters it. Both take turns, and who
begins alternates. `ratio` is the median over the images of ours / pandas, wall clock. Prints a line and writes
results/benchmarks/proposals.json.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.selective_search import ROOT, machine
from lib.proposals.cached import PIECE
from lib.storage import tables
from lib.storage.by_image import ByImage

RESULT = ROOT / "results/benchmarks/proposals.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--boxes", type=int, default=2000, help="of an image")
    parser.add_argument("--reads", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proposals.parquet"
        ids = [f"JPEGImages/{image:06d}.jpg" for image in range(arguments.images)]
        write(path, ids, arguments.boxes)
        began = time.perf_counter()
        table = ByImage(path, tables.PROPOSALS)
        opening, file = time.perf_counter() - began, pq.ParquetFile(path)
        turns: dict[str, Callable[[int], np.ndarray]] = {
            "ours": lambda image: table.boxes(ids[image]),
            "pandas": lambda image: of_group(file, image // PIECE, ids[image]),
        }
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        for number, image in enumerate(np.random.default_rng(1).integers(len(ids), size=arguments.reads).tolist()):
            read = {}
            for name in turns if number % 2 else reversed(turns):
                began = time.perf_counter()
                read[name] = turns[name](image)
                seconds[name].append(time.perf_counter() - began)
            np.testing.assert_array_equal(read["ours"], read["pandas"])
    ratios = np.array(seconds["ours"]) / np.array(seconds["pandas"])
    result = {
        "what": (__doc__ or "").split("\n")[0], "machine": machine(),
        **vars(arguments), "images_in_a_row_group": PIECE,
        "ratio": float(np.median(ratios)), "p90": float(np.percentile(ratios, 90)),
        "ms_per_image": {name: 1000 * float(np.median(times)) for name, times in seconds.items()},
        "seconds_to_open": opening,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    tables.write_json(RESULT, result)
    print(f"ratio {result['ratio']:.3f} (p90 {result['p90']:.3f}), ms an image {result['ms_per_image']}")
    return 0


def write(path: Path, ids: list[str], boxes: int) -> None:
    """A table of random boxes, in row groups as `cached.write` makes them."""
    random = np.random.default_rng(0)
    with tables.Writer(path, tables.PROPOSALS) as writer:
        for group in tables.chunks(ids, PIECE):
            corners = random.uniform(0, 400, (len(group) * boxes, 2)).astype(np.float32)
            sides = random.uniform(1, 100, corners.shape).astype(np.float32)
            frame = pd.DataFrame(np.hstack([corners, corners + sides]), columns=tables.BOX)
            frame.insert(0, "image_id", np.repeat(group, boxes))
            writer.append(frame.assign(score=random.random(len(frame), np.float32)))


def of_group(file: pq.ParquetFile, group: int, image_id: str) -> np.ndarray:
    """float32 (R, 4): the boxes of an image by way of a data frame of its row group."""
    frame = file.read_row_group(group).to_pandas()
    return tables.boxes(frame[frame["image_id"] == image_id])


if __name__ == "__main__":
    raise SystemExit(main())
