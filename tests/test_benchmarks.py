"""Benchmarks against peers: the peer gets what ours has, and what differs is named beside the figures."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lib.backbones.device import pick_device
from lib.training.trunk import TrainedTrunk

CPU = pick_device("cpu", "float32")
WITH_PEERS = ("detector_step", "extraction", "faster", "hog", "pooling", "selective_search", "sharing", "voc")


@pytest.mark.parametrize("name", WITH_PEERS)
def test_what_differs_is_named_beside_the_figures(name):
    differences = importlib.import_module(f"benchmarks.{name}").DIFFERENCES
    assert differences
    assert json.loads(Path(f"results/benchmarks/{name}.json").read_text())["differences"] == differences


def test_faster_at_test_the_peers_trunk_sees_an_unpadded_image_in_channels_last_order_and_has_no_batch_norm():
    from benchmarks import faster

    peer = faster.peer_at_test(CPU)
    seen = []
    next(peer.backbone.children()).register_forward_hook(lambda module, inputs, output: seen.append((*inputs, output)))
    with torch.inference_mode():
        peer([torch.zeros(3, 240, 320)])
    ((image, feature_map),) = seen
    assert image.shape == (1, 3, 360, 480)  # padded to a multiple of 32 its height would be 384
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert feature_map.shape == (1, 112, 23, 30)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in peer.modules())


def test_faster_in_training_the_peer_trains_as_many_numbers_as_ours():
    from benchmarks import faster

    network = faster.ours(faster.trunk())
    TrainedTrunk(network.detector.trunk, faster.FROZEN, CPU.torch_device)
    peer, optimiser = faster.peer_in_training(CPU)
    images = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image, _, _ in faster.make_images(1)]
    boxes, labels = (torch.from_numpy(part) for part in faster.make_images(1)[0][1:])
    sum(peer(images, [{"boxes": boxes, "labels": labels + 1}]).values()).backward()
    trained = [value for group in optimiser.param_groups for value in group["params"]]
    assert optimiser.defaults["fused"]
    assert all(value.grad is not None for value in trained)
    assert sum(map(torch.numel, trained)) == sum(value.numel() for value in network.parameters() if value.requires_grad)


def test_networks_times_training_and_test_each_in_its_precision():
    result = json.loads(Path("results/benchmarks/networks.json").read_text())
    assert set(result["precision"]) == {"train", "test"}
    if result["device"] == "cpu":
        assert result["precision"]["train"] == str(pick_device("cpu", "auto", training=True).dtype)[len("torch."):]
    for network in ("alexnet", "vgg16"):
        assert all(set(result[network]["ms"][phase]) == {"crop", "image", "region"} for phase in ("train", "test"))


def test_one_class_sets_hold_each_image_once_and_objects_of_one_class(tmp_path, monkeypatch):
    from benchmarks import one_class

    voc, target = tmp_path / "VOC2007", tmp_path / "cut/VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (voc / part).mkdir(parents=True)
    names = {"a": ["cat", "dog"], "b": ["dog"], "c": ["cat"], "d": ["cat"], "e": ["cat"]}
    for image_id, things in names.items():
        (voc / f"JPEGImages/{image_id}.jpg").write_bytes(image_id.encode())
        objects = "".join(
            f"<object><name>{name}</name><difficult>{int(image_id == 'e')}</difficult></object>" for name in things
        )
        (voc / f"Annotations/{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
    (voc / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    (voc / "ImageSets/Main/val.txt").write_text("d\ne\nmissing\n")
    monkeypatch.setattr(one_class, "IMAGES", 2)
    one_class.cut(voc, "cat", target)
    train, test = ((target / f"ImageSets/Main/{part}.txt").read_text().split() for part in ("train", "test"))
    assert (len(train), sorted(train + test)) == (2, ["a", "c", "d"])
    assert sorted(path.name for path in (target / "JPEGImages").iterdir()) == ["a.jpg", "c.jpg", "d.jpg"]
    assert "dog" not in (target / "Annotations/a.xml").read_text()


def test_one_class_says_what_it_lacks(tmp_path, monkeypatch, capsys):
    from benchmarks import one_class

    monkeypatch.setattr(one_class, "SHARED", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "argv", ["one_class"])
    assert one_class.main() == 0
    assert "is not here, nothing measured" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["one_class", "--root", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"VOC2007/ImageSets/Main/train.txt: is not there. Name VOCdevkit: --root"):
        one_class.main()
    (tmp_path / "VOC2007/ImageSets/Main").mkdir(parents=True)
    (tmp_path / "VOC2007/Annotations").mkdir()
    for part in ("train", "val"):
        (tmp_path / f"VOC2007/ImageSets/Main/{part}.txt").touch()
    with pytest.raises(SystemExit, match=r"0 images show 'cat'. Allowed: more than the 164"):
        one_class.main()


def test_one_class_keeps_the_classes_of_before(tmp_path, monkeypatch):
    from benchmarks import one_class

    monkeypatch.setattr(one_class, "RESULT", tmp_path / "one_class.json")
    one_class.keep("joint", "cat", {"f1": {"0.1": 0.5, "0.5": 0.7}})
    row = one_class.keep("joint", "horse", {"f1": {"0.1": 0.8, "0.5": 0.4}})
    assert list(row["sets"]) == ["cat", "horse"]
    assert row["f1"] == {"0.1": 0.65, "0.5": 0.55}
    assert row["threshold"] == 0.1


def test_f1_of_three_objects_and_four_detections_by_hand():
    from benchmarks.one_class import f1_score

    # Precision 2 of 3, as one is ignored; recall 2 of 3.
    assert f1_score(np.int8([1, -1, 1, 0]), 3) == pytest.approx(2 / 3)
