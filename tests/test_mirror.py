"""tests/ mirrors lib/: every module has a test file by its name, or is listed here with the file that tests it."""

from pathlib import Path

import pytest

# Module -> the test file that covers it, and why it has none of its own.
EXEMPT = {
    "lib/backbones/weights.py": ("tests/backbones/test_backbones.py", "weights are judged by the network they fit"),
    "lib/compiled.py": ("tests/selective_search/test_grouping.py", "one decorator; its kernels are tested"),
    "lib/datasets/cautions.py": ("tests/datasets/test_report.py", "cautions are part of the report"),
    "lib/datasets/coco_json.py": ("tests/datasets/test_coco.py", "reading COCO is tested as a whole"),
    "lib/datasets/coco_row.py": ("tests/datasets/test_coco.py", "reading COCO is tested as a whole"),
    "lib/datasets/listing.py": ("tests/datasets/test_voc.py", "listings are seen through their readers"),
    "lib/datasets/records.py": ("tests/datasets/test_voc_xml.py", "types that the readers fill"),
    "lib/detectors/dense/explain.py": ("tests/detectors/test_target.py", "all explainers against their detectors"),
    "lib/detectors/dense/whole_images.py": ("tests/detectors/dense/test_training.py", "what both trainings begin with"),
    "lib/detectors/fast/explain.py": ("tests/detectors/test_target.py", "all explainers against their detectors"),
    "lib/detectors/faster/explain.py": ("tests/detectors/test_target.py", "all explainers against their detectors"),
    "lib/detectors/rcnn/explain.py": ("tests/detectors/test_target.py", "all explainers against their detectors"),
    "lib/detectors/retinanet/explain.py": ("tests/detectors/test_target.py", "all explainers against their detectors"),
    "lib/detectors/retinanet/detector.py": ("tests/detectors/dense/test_detector.py", "the same test as SSD's"),
    "lib/detectors/ssd/detector.py": ("tests/detectors/dense/test_detector.py", "the same test as RetinaNet's"),
    "lib/detectors/ssd/explain.py": ("tests/detectors/test_target.py", "all explainers against their detectors"),
    "lib/detectors/yolo/explain.py": ("tests/detectors/test_target.py", "all explainers against their detectors"),
    "lib/digits/compose.py": ("tests/digits/test_digits.py", "the data set is tested as a whole"),
    "lib/digits/ink.py": ("tests/digits/test_digits.py", "the data set is tested as a whole"),
    "lib/digits/marks.py": ("tests/digits/test_digits.py", "the data set is tested as a whole"),
    "lib/digits/place.py": ("tests/digits/test_digits.py", "the data set is tested as a whole"),
    "lib/digits/recipe.py": ("tests/digits/test_digits.py", "settings only"),
    "lib/detectors/hog/kernels.py": ("tests/detectors/hog/test_features.py", "kernels of the functions tested there"),
    "lib/detectors/rcnn/mining.py": ("tests/stages/test_train_svm.py", "it is what that stage runs"),
    "lib/detectors/rcnn/regression.py": ("tests/stages/test_fit_boxes.py", "it is what that stage runs"),
    "lib/detectors/spp/regression.py": ("tests/stages/test_fit_boxes.py", "R-CNN's, on SPPnet's features"),
    "lib/evaluation/settings.py": ("tests/test_structure.py", "settings only; all presets are checked against them"),
    "lib/images/header.py": ("tests/images/test_decode.py", "headers are compared with the decoded image"),
    "lib/linear/files.py": ("tests/detectors/rcnn/test_network.py", "files are read by the detectors"),
    "lib/linear/negative_cache.py": ("tests/linear/test_mining.py", "the cache is a part of mining"),
    "lib/linear/regression.py": ("tests/stages/test_fit_boxes.py", "it is what that stage runs"),
    "lib/linear/task.py": ("tests/stages/test_train_svm.py", "an interface; that stage uses it"),
    "lib/pooling/kernels.py": ("tests/pooling/test_roi.py", "kernels of the functions tested there"),
    "lib/pooling/map_store.py": ("tests/detectors/spp/test_network.py", "a store is filled by SPPnet's trunk"),
    "lib/selective_search/edges.py": ("tests/selective_search/test_segmentation.py", "a step of segmentation"),
    "lib/selective_search/regions.py": ("tests/selective_search/test_grouping.py", "regions are what is grouped"),
    "lib/selective_search/scratch.py": ("tests/selective_search/test_selective_search.py", "buffers of a search"),
    "lib/selective_search/settings.py": ("tests/selective_search/test_selective_search.py", "settings only"),
    "lib/selective_search/texture.py": ("tests/selective_search/test_grouping.py", "a feature of regions"),
    "lib/visualization/folder.py": ("tests/stages/test_visualize.py", "what a stage leaves is seen there"),
    "lib/training/task.py": ("tests/stages/test_faster_steps.py", "an interface; every training stage uses it"),
}
MODULES = sorted(str(path) for path in Path("lib").rglob("*.py") if path.name != "__init__.py")


def own_test(module):
    path = Path(module)
    return Path("tests", *path.parts[1:-1], f"test_{path.name}")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_test_file(module):
    assert own_test(module).exists() or module in EXEMPT, f"write {own_test(module)}, or say in EXEMPT what tests it"


@pytest.mark.parametrize("module", sorted(EXEMPT))
def test_an_exempt_module_needs_to_be_and_its_test_is_there(module):
    path, reason = EXEMPT[module]
    assert Path(module).exists(), "the module is gone"
    assert not own_test(module).exists(), f"{own_test(module)} exists: take {module} out of EXEMPT"
    assert Path(path).exists(), f"{path} is gone: what tests {module} now?"
    assert reason
