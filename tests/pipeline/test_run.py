"""What the whole pipeline makes through real `dvc repro` on a tiny set, and that it makes it again."""

import json
import time

import pandas as pd
import pytest

from lib.stage import pipeline
from tests.pipeline.conftest import METHODS, TIMED, TINY, copy_repository, stages_run

pytestmark = pytest.mark.pipeline


def test_the_second_run_has_the_same_bytes(request, tmp_path):
    """In this order, since in a process that would have to wait for the first run there is time for the second."""
    again = copy_repository(tmp_path)
    again.set_params({**TINY, "compute.workers": 1, "compute.launcher": "multiprocessing"})
    again.run("dvc", "repro", "svm@rcnn")
    first, second = request.getfixturevalue("finished").hashes(), again.hashes()
    compared = [path for path in second if not path.startswith(TIMED)]
    assert len(compared) >= 10
    assert {path: second[path] for path in compared} == {path: first[path] for path in compared}


def test_the_artifacts(finished):
    for method in METHODS:
        metrics = json.loads((finished.folder / f"results/metrics/{method}.json").read_text())
        assert {"voc07_map", "voc10_map", "coco_map", "coco_map50", "images", "objects"} <= set(metrics)
        assert metrics["images"] == 10
        found = pd.read_parquet(finished.folder / f"data/detections/{method}.parquet")
        assert found["score"].notna().all()
        assert (found["x2"] > found["x1"]).all()
        assert len(list((finished.folder / f"results/pictures/{method}").glob("[0-9]*.png"))) == 2
    for table in ("selective_search", "p1", "p2"):
        recall = json.loads((finished.folder / f"results/metrics/proposals/{table}.json").read_text())
        assert {"recall_50", "recall_70", "abo", "boxes_per_image"} <= set(recall)
    assert not [
        path
        for path in finished.folder.rglob("*")
        if path.suffix in {".csv", ".pkl", ".npz"} and ".dvc" not in path.parts
    ]


def test_outputs_are_few_files(finished):
    """Case 62a: a file for each image would cost DVC minutes on a large set."""
    for entry in pipeline.entries().values():
        for out in entry.outs:
            files = [path for path in (finished.folder / out).rglob("*") if path.is_file()]
            assert out.endswith("VOCdevkit") or len(files) < 20, out


def test_nothing_changed_reruns_nothing(copied):
    start = time.monotonic()
    text = copied.run("dvc", "repro").stdout
    assert stages_run(text) == set()
    assert "Data and pipelines are up to date" in text
    assert time.monotonic() - start < 30  # not a benchmark: a rerun stage would take longer


def test_another_number_of_boxes_at_test_trains_nothing_again(copied):
    """P1 and P2 are made again; the rows that M2 and M4 learn from have the same bytes."""
    copied.set_params({"faster.propose.test.post_nms": 10})
    done = copied.run("dvc", "repro", "evaluate@faster", "evaluate@faster_unshared")
    assert stages_run(done.stdout) == {
        "p1",
        "p2",
        *(f"{verb}@{method}" for verb in ("detect", "evaluate") for method in ("faster", "faster_unshared")),
    }
