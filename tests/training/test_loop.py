import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from lib.backbones.device import Device
from lib.stage.errors import InputError
from lib.storage import checkpoint
from lib.training import loop as training
from lib.training.optimisation import Optimisation

CPU = Device(torch.device("cpu"), torch.float32)
SETTINGS = dict(
    iterations=12, optimiser={"name": "adamw"}, learning_rate=0.01, clip_norm=None, weight_decay=0.01,
    bias_multiplier=2.0,
    head_multiplier=10.0, schedule={"name": "cosine", "warmup": 0.25}, parts=2, checkpoint_every=5,
)
SGD = {"name": "sgd", "momentum": 0.9}
STEP = {"name": "step", "every": 5, "gamma": 0.1}


def settings(**changes):
    return Optimisation(**{**SETTINGS, **changes})


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))


def run(tmp_path, stop=None, net=None, poison=None, started=None, **changes):
    """started : a list that gets the iterations done before"""
    net = net or network()
    optimisation = settings(**changes)

    def batch(i):
        random = training.generator(3, "test", i)
        images = torch.from_numpy(random.random((8, 3, 8, 8), dtype=np.float32))
        labels = torch.from_numpy(random.integers(3, size=8))
        if i == poison:
            images[0] = torch.nan
        parts = optimisation.parts
        return [(images[part::parts], labels[part::parts]) for part in range(parts)]

    def losses(part):
        loss = nn.functional.cross_entropy(net(part[0]), part[1], reduction="sum") / 8
        return training.Part({"classification": loss}, ["a.jpg"])

    def progress(todo, done):
        if started is not None:
            started.append(done)
        for i in todo:
            if i == stop:
                raise KeyboardInterrupt
            yield i

    log = training.train(net, [net[2]], batch, losses, optimisation, CPU, 3, "test", tmp_path, progress)
    checkpoint.save(tmp_path / "final.pt", {"net": net.state_dict(), "log": log})
    return net, log, hashlib.md5((tmp_path / "final.pt").read_bytes()).hexdigest()


def test_a_longer_gradient_is_scaled_to_clip_norm_over_all_parameters(tmp_path):
    """One step of SGD moves by the learning rate times the gradient."""
    def moved(clip):
        folder = tmp_path / str(clip)
        folder.mkdir()
        net, _, _ = run(folder, iterations=1, optimiser=SGD, schedule=STEP, learning_rate=0.5,
                        weight_decay=0.0, clip_norm=clip, bias_multiplier=1.0, head_multiplier=1.0)
        pairs = zip(net.parameters(), network().parameters(), strict=True)
        return torch.cat([(after - before).flatten() for after, before in pairs]).detach() / 0.5

    whole = moved(None)
    norm = whole.norm().item()
    assert norm > 0.1
    torch.testing.assert_close(moved(norm / 4), whole / 4, atol=1e-6, rtol=1e-4)
    assert torch.equal(moved(norm * 2), whole)


@pytest.mark.parametrize("optimiser", [SGD, {"name": "adamw"}], ids=lambda optimiser: optimiser["name"])
@pytest.mark.parametrize("stop", [3, 5, 11])
def test_interrupted_and_resumed_is_the_same_bytes(tmp_path, stop, optimiser):
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    expected = run(tmp_path / "whole", optimiser=optimiser)[2]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop, optimiser=optimiser)
    started = []
    assert run(tmp_path / "cut", started=started, optimiser=optimiser)[2] == expected
    assert started == [stop // 5 * 5], "it goes on from the last state, not from the start"


def test_dropout_is_part_of_the_pure_function(tmp_path):
    def with_dropout():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), nn.Linear(4 * 36, 3))

    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    expected = run(folders[0], net=with_dropout())[2]
    with pytest.raises(KeyboardInterrupt):
        run(folders[1], 7, net=with_dropout())
    torch.rand(5)
    assert run(folders[1], net=with_dropout())[2] == expected


def test_parts_of_a_batch_add_up_to_the_whole(tmp_path):
    nets = []
    for parts in (1, 2, 4):
        (tmp_path / str(parts)).mkdir()
        nets.append(run(tmp_path / str(parts), parts=parts, optimiser=SGD)[0])
    for other in nets[1:]:
        for one, two in zip(nets[0].parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_one_sgd_step_by_hand(tmp_path):
    """Caffe's rule: v = momentum v + rate (gradient + decay weight); biases: twice the rate, no decay; head: ten."""
    before = network()
    net, log, _ = run(tmp_path, iterations=1, optimiser=SGD, schedule=STEP, learning_rate=0.1, weight_decay=0.5)
    random = training.generator(3, "test", 0)
    images = torch.from_numpy(random.random((8, 3, 8, 8), dtype=np.float32))
    labels = torch.from_numpy(random.integers(3, size=8))
    loss = nn.functional.cross_entropy(before(images), labels)
    assert log[0]["classification"] == pytest.approx(loss.item(), abs=1e-5)
    loss.backward()
    for name, rate, decay in (("0.weight", 0.1, 0.5), ("0.bias", 0.2, 0), ("2.weight", 1.0, 0.5), ("2.bias", 2.0, 0)):
        old = before.get_parameter(name)
        expected = old - rate * (old.grad + decay * old)
        torch.testing.assert_close(net.get_parameter(name), expected, atol=1e-5, rtol=1e-4)


def test_two_sgd_steps_keep_the_momentum():
    """Gradients of 1: the first step is the rate, the second the rate times 1 + momentum."""
    net = nn.Linear(1, 1, bias=False)
    before = net.weight.item()
    optimisation = settings(optimiser={"name": "sgd", "momentum": 0.5}, learning_rate=0.25, weight_decay=0.0)
    optimiser = training._optimiser(net, [], optimisation)
    for _ in range(2):
        net.weight.grad = torch.ones(1, 1)
        optimiser.step()
    assert net.weight.item() == pytest.approx(before - 0.25 * (1 + 1.5))
    assert isinstance(training._optimiser(net, [], settings()), torch.optim.AdamW)


def test_the_first_loss_that_is_not_finite_stops_it(tmp_path):
    with pytest.raises(InputError, match=r"iteration 7, images a.jpg.*not finite.*Lower the learning rate"):
        run(tmp_path, poison=7)
    saved = checkpoint.load(tmp_path / "state.pt")
    assert saved["done"] == 5
    assert all(torch.isfinite(value).all() for value in saved["network"].values())


@pytest.mark.parametrize("poison", [0, 4, 11])
def test_a_late_loss_is_read_before_a_state_is_saved_and_before_the_end(tmp_path, poison):
    """Losses are read one step late, but before each state and before the end."""
    with pytest.raises(InputError, match=rf"iteration {poison}, images a.jpg.*not finite"):
        run(tmp_path, poison=poison)
    assert (tmp_path / "state.pt").exists() == (poison > 5)


def test_weights_that_are_not_finite_are_named_and_never_saved(tmp_path):
    net = network()
    net.register_buffer("spare", torch.tensor([1.0, torch.inf]))
    with pytest.raises(InputError, match=r"weights are not finite: spare \(1 tensors\)"):
        run(tmp_path, net=net)
    assert not (tmp_path / "state.pt").exists()


def test_a_learning_rate_that_diverges(tmp_path):
    with pytest.raises(InputError, match="not finite"):
        run(tmp_path, learning_rate=1e30, optimiser=SGD, schedule=STEP)


def test_no_iterations_change_nothing(tmp_path):
    net, log, _ = run(tmp_path, iterations=0)
    assert log == []
    assert torch.equal(net[2].weight, network()[2].weight)
