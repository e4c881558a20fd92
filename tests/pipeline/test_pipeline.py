"""The whole pipeline through real `dvc repro` on a tiny set: what it makes, what reruns, what a kill leaves."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from lib.stage import pipeline
from tests.closure import closure

pytestmark = pytest.mark.pipeline

# Timings are files of their own and no part of "the same bytes".
TIMED = ("results/cost/", "results/speed/")


def stages_run(text):
    return set(re.findall(r"Running stage '([^']+)'", text))


def test_the_artifacts(finished):
    for method in METHODS:
        metrics = json.loads((finished.folder / f"results/metrics/{method}.json").read_text())
        assert {"voc07_map", "voc10_map", "coco_map", "coco_map50", "images", "objects"} <= set(metrics)
        assert metrics["images"] == 10
        found = pd.read_parquet(finished.folder / f"data/detections/{method}.parquet")
        assert found["score"].notna().all()
        assert (found["x2"] > found["x1"]).all()
        assert len(list((finished.folder / f"results/pictures/{method}").glob("*.png"))) == 2
    for table in ("selective_search", "p1", "p2"):
        recall = json.loads((finished.folder / f"results/metrics/proposals/{table}.json").read_text())
        assert {"recall_50", "recall_70", "abo", "boxes_per_image"} <= set(recall)
    assert not [path for path in finished.folder.rglob("*") if path.suffix in {".csv", ".pkl", ".npz"} and ".dvc" not in path.parts]


def test_nothing_changed_reruns_nothing(finished):
    start = time.monotonic()
    text = finished.run("dvc", "repro").stdout
    assert stages_run(text) == set()
    assert "Data and pipelines are up to date" in text
    assert time.monotonic() - start < 30  # not a benchmark: a rerun stage would take longer


def test_the_second_run_has_the_same_bytes(finished, tmp_path):
    from tests.pipeline.conftest import TINY, copy_repository

    again = copy_repository(tmp_path)
    again.set_params({**TINY, "compute.workers": 1, "compute.launcher": "multiprocessing"})
    again.run("dvc", "repro", "svm@rcnn")
    first, second = finished.hashes(), again.hashes()
    compared = [path for path in second if not path.startswith(TIMED)]
    assert len(compared) >= 10
    assert {path: second[path] for path in compared} == {path: first[path] for path in compared}


# What one changed number may rerun: exactly this.
METHODS = {"rcnn", "spp", "fast", "fast_svd", "fast_svm", "faster", "faster_unshared", "faster_joint"}


def row(verb, methods=METHODS):
    return {f"{verb}@{method}" for method in methods}


def ends(*methods):
    """From the detections of these methods to the report."""
    return {"report", *row("detect", methods), *row("evaluate", methods), *row("draw", methods)}


LEARN = {"svm@rcnn", "boxes@rcnn", *ends("rcnn")}
RCNN = {"rcnn_finetune", "extract@rcnn", *LEARN}
SPP_LEARN = {"svm@spp", "boxes@spp", *ends("spp")}
SPP_WINDOWS = {"spp_finetune", "extract@spp", *SPP_LEARN}
SPP = {"spp_pretrain", "spp_maps", *SPP_WINDOWS}
FAST_SVM = {"svm@fast_svm", *ends("fast_svm")}
FAST = {"fast", "fast_svd", "extract@fast_svm", *FAST_SVM, *ends("fast", "fast_svd")}
M4 = {"m4", *ends("faster")}
M3 = {"m3", "p2", *M4}
M2 = {"m2", *M3, *ends("faster_unshared")}
M1 = {"m1", "p1", *M2}
JOINT = {"faster_joint", *ends("faster_joint")}
TRAINED = RCNN | SPP | FAST | M1 | JOINT
SEARCH = {"propose", *RCNN, *SPP_WINDOWS, *FAST, *row("draw")}
ALL = {"prepare", "propose", *TRAINED}
CHANGES = [
    ("digits.seed", 9, {"data/digits/dvc.yaml:digits", *ALL}),
    ("data.min_box_size", 3.0, ALL),
    ("splits.train", ["train"], TRAINED),
    ("splits.test", ["val"], {"propose", *TRAINED}),
    ("proposals.selective_search.max_boxes", 30, SEARCH),
    ("m0.weights", "other.pth", {"m0", *TRAINED}),
    ("seed", 4, TRAINED),
    ("rcnn.difficult", False, RCNN),
    ("rcnn.crop.context", 8, RCNN),
    ("rcnn.finetune.iterations", 0, RCNN),
    ("rcnn.extract.batch", 32, {"extract@rcnn", *LEARN}),
    ("rcnn.svm.C", 0.01, {"svm@rcnn", *ends("rcnn")}),
    ("rcnn.boxes.penalty", 10.0, {"boxes@rcnn", *ends("rcnn")}),
    ("rcnn.detect.scores", "softmax", ends("rcnn")),
    ("spp.difficult", False, SPP),
    ("spp.layers.fc", 16, SPP),
    ("spp.scales", [64], {"spp_maps", *SPP_WINDOWS}),
    ("spp.window.slack", 0.0, SPP_WINDOWS),
    ("spp.pretrain.batch", 4, SPP),
    ("spp.maps.shard_mib", 2, {"spp_maps", *SPP_WINDOWS}),
    ("spp.finetune.batch", 8, SPP_WINDOWS),
    ("spp.extract.batch", 16, {"extract@spp", *SPP_LEARN}),
    ("spp.svm.C", 0.01, {"svm@spp", *ends("spp")}),
    ("spp.boxes.penalty", 10.0, {"boxes@spp", *ends("spp")}),
    ("spp.detect.nms", 0.4, ends("spp")),
    ("fast.difficult", False, FAST),
    ("fast.train.regions", 8, FAST),
    ("fast.detect.nms", 0.4, ends("fast", "fast_svd")),
    ("fast_svd.ranks", [4, 4], {"fast_svd", *ends("fast_svd")}),
    ("fast_svm.extract.batch", 32, {"extract@fast_svm", *FAST_SVM}),
    ("fast_svm.svm.C", 0.01, FAST_SVM),
    ("fast_svm.detect.nms", 0.4, ends("fast_svm")),
    ("faster.difficult", True, M1 | JOINT),
    ("faster.anchors.scales", [32.0], M1 | JOINT),
    ("faster.rpn.width", 64, M1 | JOINT),
    ("faster.m1.images", 1, M1),
    ("faster.m2.regions", 8, M2),
    ("faster.m3.images", 1, M3),
    ("faster.m4.regions", 8, M4),
    ("faster.propose.test.post_nms", 10, {"p1", *M2, *ends("faster_joint")}),
    ("faster.detect.nms", 0.4, ends("faster", "faster_unshared", "faster_joint")),
    ("faster_joint.train.regions", 8, JOINT),
    ("evaluate.iou", 0.7, {"report", *row("evaluate")}),
    ("pictures.images", 3, row("draw")),
    ("report.images", 3, {"report"}),
    ("compute.workers", 1, set()),
]


@pytest.mark.parametrize(("key", "value", "expected"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_changed_number_reruns_exactly_what_it_affects(finished, key, value, expected):
    path = finished.folder / "params.yaml"
    before = path.read_text()
    try:
        finished.set_params({key: value})
        text = finished.run("dvc", "repro", "--dry", "--force-downstream").stdout
    finally:
        path.write_text(before)
    assert stages_run(text) == expected


def test_another_number_of_boxes_at_test_trains_nothing_again(copied):
    """P1 and P2 are made again; the rows that M2 and M4 learn from have the same bytes."""
    copied.set_params({"faster.propose.test.post_nms": 10})
    done = copied.run("dvc", "repro", "evaluate@faster", "evaluate@faster_unshared")
    assert stages_run(done.stdout) == {"p1", "p2", *row("detect", ["faster", "faster_unshared"]), *row("evaluate", ["faster", "faster_unshared"])}


KILLS = [  # stage, the file after whose n-th appearance the stage is killed
    ("propose", r"/pieces/\w+\.parquet$", 2),
    ("rcnn_finetune", r"/state\.pt$", 1),
    ("extract@rcnn", r"/fc7-00000\.npy$", 1),
    ("svm@rcnn", r"/state\.pt$", 2),
    ("detect@rcnn", r"/state\.pt$", 1),
    ("spp_pretrain", r"/state\.pt$", 1),
    ("spp_maps", r"\.npy$", 1),
    ("spp_finetune", r"/state\.pt$", 1),
    ("fast", r"/state\.pt$", 1),
    ("m1", r"/state\.pt$", 1),
    ("p1", r"/pieces/\w+\.parquet$", 1),
    ("m2", r"/state\.pt$", 1),
    ("m3", r"/state\.pt$", 1),
    ("m4", r"/state\.pt$", 1),
    ("faster_joint", r"/state\.pt$", 1),
    ("detect@faster", r"/state\.pt$", 1),
]

# Loaded by every Python that starts: kills a stage with SIGKILL right after a given file has been moved into place.
SABOTAGE = """
import os, re, signal, sys
if os.environ.get("KILL_AT") and not os.path.exists(os.environ["KILL_ONCE"]):
    replace, seen = os.replace, []
    def sabotaged(source, target, **rest):
        replace(source, target, **rest)
        if re.search(os.environ["KILL_AT"], os.fspath(target)):
            seen.append(target)
            if len(seen) == int(os.environ["KILL_COUNT"]):
                open(os.environ["KILL_ONCE"], "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
    os.replace = sabotaged
"""


@pytest.mark.parametrize(("stage", "file", "count"), KILLS, ids=[kill[0] for kill in KILLS])
def test_killed_in_the_middle_and_run_again_has_the_same_bytes(copied, tmp_path, stage, file, count):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(SABOTAGE)
    once = tmp_path / "killed"
    hook = {"KILL_AT": file, "KILL_COUNT": str(count), "KILL_ONCE": str(once), "PYTHONPATH": str(tmp_path / "hook")}
    (copied.folder / "data/proposals/selective_search.parquet").unlink() if stage == "propose" else None
    expected = copied.hashes()
    killed = copied.run("dvc", "repro", "-s", "--force", stage, check=False, **hook)
    assert once.exists(), killed.stderr
    assert killed.returncode != 0
    pieces = [path for path in (copied.folder / ".scratch").rglob("*") if path.is_file() and re.search(file, str(path))]
    assert pieces
    resumed = copied.run("dvc", "repro", "-s", "--no-run-cache", stage)
    assert stages_run(resumed.stdout) == {stage}
    assert "resuming an earlier run" in resumed.stdout
    compared = {path: md5 for path, md5 in copied.hashes().items() if not path.startswith(TIMED)}
    assert compared == {path: expected[path] for path in compared}
    assert not [path for path in (copied.folder / ".scratch").rglob("*") if re.search(file, str(path))]


def test_proposals_are_computed_for_new_content_only(copied):
    def new(changes):
        copied.set_params(changes)
        return re.search(r"propose: 28 images, (\d+) of them new", copied.run("dvc", "repro", "propose").stdout)[1]

    assert new({"splits.train": ["train"], "splits.test": ["val"]}) == "0"
    shutil.copytree(copied.folder / "data/digits/VOCdevkit", copied.folder / "own")
    pictures = sorted((copied.folder / "own/DIGITS/JPEGImages").iterdir())
    pictures[3].unlink()  # the copy may share its bytes with DVC's cache
    pictures[3].write_bytes(pictures[4].read_bytes())
    assert new({"data.root": "own"}) == "1"
    assert new({"proposals.selective_search.max_boxes": 39}) == "28"


def test_a_slip_in_a_late_block_stops_the_first_stage(copied):
    copied.set_params({"digits.seed": 5, "rcnn.detect.nms": 3.0, "evaluate.iou": "0.5"})
    done = copied.run("dvc", "repro", check=False)
    assert done.returncode != 0
    for part in ("rcnn.detect.nms: is 3.0", "less than or equal to 1", "evaluate.iou: is '0.5' (text)", "Write 0.5"):
        assert part in done.stderr
    assert stages_run(done.stdout) == {"data/digits/dvc.yaml:digits"}
    assert "Traceback" not in done.stderr


def test_broken_data_is_reported_whole_and_nothing_is_lost(copied):
    folder = copied.folder / "own"
    source = copied.folder / "data/digits/VOCdevkit/DIGITS"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    for number, xml in enumerate(sorted((source / "Annotations").glob("*.xml"))):
        text = xml.read_text()
        if number == 0:
            text = re.sub(r"<xmin>\d+", "<xmin>NaN", text, count=1)
        if number == 1:
            text = re.sub(r"<xmax>\d+", "<xmax>9999", text, count=1)
        (folder / "Annotations" / xml.name).write_text(text)
        (folder / "JPEGImages" / f"{xml.stem}.jpg").write_bytes((source / "JPEGImages" / f"{xml.stem}.jpg").read_bytes())
    copied.set_params({"data.root": "own"})
    done = copied.run("dvc", "repro", check=False)
    assert done.returncode != 0
    names = sorted(path.name for path in (folder / "Annotations").iterdir())
    for part in (names[0], "NaN", names[1], "9999"):
        assert part in done.stderr
    copied.set_params({"data.root": "data/digits/VOCdevkit"})
    # No long work is done again; the report shows the time that prepare took.
    assert stages_run(copied.run("dvc", "repro").stdout) == {"prepare", "report"}


def test_dvc_killed_then_the_stage_ends_too(copied):
    copied.set_params({"rcnn.finetune.iterations": 4000})
    lock = copied.folder / ".scratch/rcnn_finetune/lock"
    lock.unlink()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    dvc = subprocess.Popen(
        ["dvc", "repro", "-s", "rcnn_finetune"], cwd=copied.folder, env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (lock.exists() and lock.read_text()):
        assert time.monotonic() < deadline, "the stage did not start"
        time.sleep(0.1)
    stage = psutil.Process(int(lock.read_text()))
    dvc.kill()
    dvc.wait()
    _, alive = psutil.wait_procs([stage], timeout=30)
    assert not alive or alive[0].status() == psutil.STATUS_ZOMBIE


def everything_after(first):
    """These stages and all that use their outputs, by dvc.yaml."""
    found, entries = set(first), pipeline.entries()
    while True:
        outs = [out for name in found for out in entries[name].outs]
        more = {name for name, entry in entries.items()
                if any(dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for dep in entry.deps for out in outs)}
        if more <= found:
            return found
        found |= more


@pytest.mark.parametrize("module", ["lib/boxes/nms.py", "lib/linear/svm.py", "lib/evaluation/matching.py",
                                    "lib/selective_search/edges.py", "stages/extract.py"])
def test_a_changed_module_reruns_what_uses_it(finished, module):
    """Case 59. The stages that import it by whatever way, and what comes after them; no other."""
    path = finished.folder / module
    before, entries = path.read_bytes(), pipeline.entries()
    users = {name for name, entry in entries.items() if module in closure(entry.script, entry.args)}
    assert users
    try:
        path.write_bytes(before + b"\n# a remark\n")
        text = finished.run("dvc", "repro", "--dry", "--force-downstream").stdout
    finally:
        path.write_bytes(before)
    assert users <= stages_run(text) <= everything_after({name for name in entries if module in entries[name].deps})


def test_outputs_are_few_files(finished):
    """Case 62a: a file for each image would cost DVC minutes on a large set."""
    for entry in pipeline.entries().values():
        for out in entry.outs:
            files = [path for path in (finished.folder / out).rglob("*") if path.is_file()]
            assert out.endswith("VOCdevkit") or len(files) < 20, out


def test_a_corrected_box_a_new_image_and_a_renamed_class_are_all_seen(copied):
    """Case 56c: no copy of the annotations is kept anywhere that DVC does not renew."""
    shutil.copytree(copied.folder / "data/digits/VOCdevkit/DIGITS", copied.folder / "own")
    copied.set_params({"data.root": "own"})
    (copied.folder / "own/Annotations").rename(copied.folder / "own/linked")  # its files may be DVC's own
    shutil.copytree(copied.folder / "own/linked", copied.folder / "own/Annotations", copy_function=shutil.copy)
    shutil.rmtree(copied.folder / "own/linked")

    def objects():
        copied.run("dvc", "repro", "prepare")
        return pd.read_parquet(copied.folder / "data/tables/objects.parquet")

    first, xml = objects(), sorted((copied.folder / "own/Annotations").glob("*.xml"))[0]
    xml.chmod(0o644)
    text = xml.read_text()
    corner = int(re.search(r"<xmax>(\d+)", text)[1])
    xml.write_text(text.replace(f"<xmax>{corner}<", f"<xmax>{corner - 3}<", 1))
    second = objects()
    assert (first["x2"] - second["x2"]).sum() == 3
    assert "propose" in copied.run("dvc", "status").stdout, "what was made from the old table is out of date"

    name = re.search(r"<name>(\w+)", text)[1]
    xml.write_text(text.replace(f"<name>{name}<", "<name>renamed<", 1))
    assert "renamed" in set(objects()["class"])

    xml.write_text(text)
    lists = copied.folder / "own/ImageSets/Main"
    for path in lists.iterdir():
        path.chmod(0o644)
    shutil.copy(xml, xml.with_stem("extra"))
    picture = copied.folder / "own/JPEGImages" / f"{xml.stem}.jpg"
    shutil.copy(picture, picture.with_stem("extra"))
    listed = next(path for path in (lists / "train.txt", lists / "test.txt", lists / "val.txt") if xml.stem in path.read_text())
    new_list = listed.read_text() + "extra\n"
    listed.unlink()
    listed.write_text(new_list)
    assert len(objects()) > len(first)


@pytest.mark.parametrize("root", ["./own", "../elsewhere", "own/"])
def test_a_data_root_may_be_written_in_any_way(copied, root):
    target = copied.folder / root
    shutil.copytree(copied.folder / "data/digits/VOCdevkit/DIGITS", target)
    copied.set_params({"data.root": root})
    assert stages_run(copied.run("dvc", "repro", "-s", "prepare").stdout) == {"prepare"}
