"""What an edit makes DVC run again, on the finished tiny run: a number of params.yaml, a file of code."""

import json
import re
import sys
from pathlib import Path

import pytest

from lib.stage import pipeline
from tests.closure import closure, dep_of
from tests.pipeline.conftest import METHODS, VISUALIZED

pytestmark = pytest.mark.pipeline


def row(verb, methods=METHODS):
    return {f"{verb}@{method}" for method in methods}


def ends(*methods):
    """From the detections of these methods, and what is made of them, to the report."""
    rescored = {"fast_yolo"} if {"fast", "yolo"} & {*methods} else set()
    shown = {*methods, *rescored}
    return {
        "report", *rescored, *row("detect", shown - {"fast_yolo"}), *row("evaluate", shown), *row("draw", shown),
        *row("visualize", VISUALIZED & shown),
    }


HOG_SVM = {"svm@hog", *ends("hog")}
HOG_BOXES = {"boxes@hog", *ends("hog")}
HOG = {"hog_features", "hog_windows", *HOG_SVM, *HOG_BOXES}
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
YOLO = {"yolo", *ends("yolo")}
SSD = {"ssd", *ends("ssd")}
RETINANET = {"retinanet", *ends("retinanet")}
NETWORKS = RCNN | SPP | FAST | M1 | JOINT | YOLO | SSD | RETINANET
TRAINED = HOG | NETWORKS
SEARCH = {"propose", *RCNN, *SPP_WINDOWS, *FAST, *row("draw"), *row("visualize", VISUALIZED)}
ALL = {"prepare", "propose", *TRAINED}
CHANGES = [
    ("digits.seed", 9, {"data/digits/dvc.yaml:digits", *ALL}),
    ("data.min_box_size", 3.0, ALL),
    ("splits.train", ["train"], {"propose", *TRAINED}),
    ("splits.test", ["val"], {"propose", *TRAINED}),
    ("proposals.selective_search.max_boxes", 30, SEARCH),
    ("m0.weights", "other.pth", {"m0", *NETWORKS}),
    ("seed", 4, TRAINED - {"hog_features"}),
    ("hog.descriptor.gamma", "sqrt", HOG),
    ("hog.pyramid.padding", 2, HOG),
    ("hog.difficult", False, {"hog_windows", *HOG_SVM, *HOG_BOXES}),
    ("hog.windows.copies", 1, {"hog_windows", *HOG_SVM, *HOG_BOXES}),
    ("hog.svm.C", 0.1, HOG_SVM),
    ("hog.boxes.penalty", 10.0, HOG_BOXES),
    ("hog.propose.octave", 4, ends("hog")),
    ("rcnn.difficult", False, RCNN),
    ("rcnn.crop.context", 8, RCNN),
    ("rcnn.finetune.iterations", 0, RCNN),
    ("rcnn.extract.batch", 32, {"extract@rcnn", *LEARN}),
    ("rcnn.svm.C", 0.01, {"svm@rcnn", *ends("rcnn")}),
    ("rcnn.svm.layer", "pool5", {"extract@rcnn", *LEARN}),
    ("rcnn.boxes.more_than", 0.5, {"extract@rcnn", *LEARN}),
    ("rcnn.boxes.penalty", 10.0, {"boxes@rcnn", *ends("rcnn")}),
    ("rcnn.detect.scores", "softmax", ends("rcnn")),
    ("spp.difficult", False, SPP),
    ("spp.layers.fc", 16, SPP),
    ("spp.scales", [64], {"spp_maps", *SPP_WINDOWS}),
    ("spp.window.slack", 0.0, SPP_WINDOWS),
    ("spp.pretrain.batch", 4, SPP),
    ("spp.maps.shard_mib", 2, {"spp_maps", *SPP_WINDOWS}),
    ("spp.finetune.batch", 8, SPP_WINDOWS),
    ("spp.extract.batch", 16, {"extract@spp", "svm@spp", *ends("spp")}),
    ("spp.svm.C", 0.01, {"svm@spp", *ends("spp")}),
    ("spp.boxes.more_than", 0.6, {"boxes@spp", *ends("spp")}),
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
    ("yolo.difficult", True, YOLO),
    ("yolo.grid.boxes", 3, YOLO),
    ("yolo.layers.dropout", 0.5, YOLO),
    ("yolo.train.loss.no_object", 1.0, YOLO),
    ("yolo.detect.nms", 0.3, ends("yolo")),
    ("fast_yolo.rescore.weight", 0.5, {"fast_yolo", "evaluate@fast_yolo", "draw@fast_yolo", "report"}),
    ("ssd.difficult", False, SSD),
    ("ssd.boxes.steps", [8.0, 16.0, 32.0, 64.0], SSD),
    ("ssd.layers.l2_scale", [None] * 3, SSD),
    ("ssd.train.augment.crops", [], SSD),
    ("ssd.detect.nms", 0.3, ends("ssd")),
    ("retinanet.difficult", True, RETINANET),
    ("retinanet.anchors.octaves", 1, RETINANET),
    ("retinanet.layers.depth", 2, RETINANET),
    ("retinanet.train.loss.gamma", 0.0, RETINANET),
    ("retinanet.detect.floor", 0.1, ends("retinanet")),
    ("evaluate.iou", 0.7, {"report", *row("evaluate")}),
    ("pictures.images", 3, row("draw")),
    ("report.images", 3, {"report"}),
    ("compute.workers", 1, set()),
]

CODE = [
    "lib/boxes/nms.py",
    "lib/linear/svm.py",
    "lib/evaluation/matching.py",
    "lib/selective_search/edges.py",
    "lib/images/decode.py",
    "lib/training/loop.py",
    "lib/detectors/faster/rpn.py",
    "stages/extract.py",
    "stages/train.py",
]
MACHINERY = [
    *map(str, Path("lib/stage").glob("*.py")),
    *map(str, Path("lib/parallel").glob("*.py")),
    "stages/schemas.py",
]
AT_TEST = {
    "lib/detection/candidates.py": ends(*METHODS),
    "lib/detectors/hog/detector.py": ends("hog"),
    "lib/detectors/rcnn/detector.py": ends("rcnn"),
    "lib/detectors/fast/detector.py": ends("fast", "fast_svd", "fast_svm"),
    "lib/detectors/faster/detector.py": ends("faster", "faster_unshared", "faster_joint"),
    "lib/detectors/dense/detector.py": ends("yolo", "ssd", "retinanet"),
    "lib/detectors/yolo/detector.py": ends("yolo"),
    "lib/report/page.py": {"report", *row("draw"), *row("visualize", VISUALIZED)},
    "lib/evaluation/matching.py": {
        "report", *row("evaluate"), *row("draw"), *row("visualize", VISUALIZED),
    },
    "lib/detectors/fast/explain.py": {"report", *row("visualize", {"fast", "faster", "faster_joint"})},
    "lib/detectors/dense/explain.py": {"report", *row("visualize", {"yolo", "ssd", "retinanet"})},
    "lib/detectors/ssd/explain.py": {"report", "visualize@ssd"},
}


@pytest.fixture(scope="module")
def reruns(own, finished, tmp_path_factory):
    """DVC's answers: key of params.yaml, or file of code, -> the stages that it would run. One process asks for all."""
    own.restore(finished)
    numbers = {key: {"params.yaml": own.changed_params({key: value})} for key, value, _ in CHANGES}
    code = {path: (own.folder / path).read_text() + "\n# a remark\n" for path in {*CODE, *MACHINERY, *AT_TEST}}
    alone = {path: {path: code[path]} for path in {*CODE, *AT_TEST}}
    edits = {"nothing": {}, **numbers, **alone, "machinery": {path: code[path] for path in MACHINERY}}
    script, folder = Path(__file__).with_name("reruns.py"), tmp_path_factory.mktemp("reruns")
    (folder / "edits.json").write_text(json.dumps(list(edits.values())))
    own.run(sys.executable, str(script), str(folder / "edits.json"), str(folder / "answers.json"))
    answers = json.loads((folder / "answers.json").read_text())
    return dict(zip(edits, map(set, answers), strict=True))


def test_dvc_says_the_same_in_its_own_process(copied, reruns):
    """The command that a reader types, once: nothing else below goes through it."""
    copied.set_params({"evaluate.iou": 0.7})
    text = copied.run("dvc", "repro", "--dry", "--force-downstream").stdout
    assert set(re.findall(r"Running stage '([^']+)'", text)) == reruns["evaluate.iou"]
    assert reruns["nothing"] == set()


@pytest.mark.parametrize(("key", "value", "expected"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_changed_number_reruns_exactly_what_it_affects(reruns, key, value, expected):
    assert reruns[key] == expected


def everything_after(first):
    """These stages and all that use their outputs, by dvc.yaml."""
    found, entries = set(first), pipeline.entries()
    while True:
        outs = [out for name in found for out in entries[name].outs]
        more = {
            name
            for name, entry in entries.items()
            if any(
                dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")
                for dep in entry.deps
                for out in outs
            )
        }
        if more <= found:
            return found
        found |= more


@pytest.mark.parametrize("module", CODE)
def test_a_changed_module_reruns_what_uses_it(reruns, module):
    """Case 59. The stages that import it by whatever way, those that list its folder, what comes after; no other."""
    entries = pipeline.entries()
    users = {name for name, entry in entries.items() if module in closure(entry)}
    assert users
    listed = {name for name, entry in entries.items() if dep_of(module) in entry.deps}
    assert users <= listed
    assert reruns[module] == everything_after(listed)


def test_changed_machinery_reruns_nothing(reruns):
    assert len(MACHINERY) > 10
    assert reruns["machinery"] == set()


@pytest.mark.parametrize("module", AT_TEST)
def test_what_runs_after_training_trains_nothing_again(reruns, module):
    """An edit of how candidates are kept costs detections, not trainings; one of a paper's detector, its rows alone."""
    assert reruns[module] == AT_TEST[module]
