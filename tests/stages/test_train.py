"""`stages.train` with iterations that follow from the training set."""

from lib.storage import tables
from tests.life import FakeLife
from tests.stages import network_stages
from tests.stages.network_stages import CHANGES, SCRIPTS, TRAININGS

# Two images of two and one objects for training; two images of a batch, four crops, two of eight windows foreground.
# No proposal is large enough to be foreground. One and a half passes, rounded up:
ITERATIONS = {
    "rcnn_finetune": 3, "spp_finetune": 3,  # of 3 objects, 2 a batch
    "spp_pretrain": 2,  # of 3 crops, 4 a batch
    "fast": 2, "m1": 2, "m2": 2, "m3": 2, "m4": 2, "faster_joint": 2,  # of 2 images, 2 a batch
    "yolo": 2, "ssd": 2, "retinanet": 2,  # the same
}


def test_iterations_of_every_training_follow_from_its_set(tmp_path):
    passes = {"passes": 1.5, "least": 1, "most": 50}
    changes = {key: {**block, "iterations": passes} if "iterations" in block else block
               for key, block in CHANGES.items()}
    whole = network_stages.values(changes)
    network_stages.start(tmp_path, "resnet18")
    done = {}
    for name in [name for name in SCRIPTS if not name.startswith(("detect", "svm", "boxes", "fast_svd", "fast_yolo"))]:
        life = FakeLife(tmp_path, name, whole)
        SCRIPTS[name].main(life)
        if name in TRAININGS:
            done[name] = len(tables.read_json(tmp_path / f"results/plots/loss/{name}.json"))
            assert life.said[0].startswith(f"{ITERATIONS[name]} iterations of")
    assert done == ITERATIONS
