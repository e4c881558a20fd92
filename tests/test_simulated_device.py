"""The simulated GPU keeps the rules that it states: what it refuses, what it counts, what it computes."""

import copy
import threading

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from lib.backbones.backbones import IMAGENET
from lib.backbones.device import Device, pick_device
from lib.backbones.inference import fold_batch_norm
from tests import simulated_device
from tests.simulated_device import DeviceTensor, device_tensor


@pytest.fixture
def gpu():
    with simulated_device.installed() as simulation:
        yield simulation


def on_device(*shape):
    torch.manual_seed(0)
    return device_tensor(torch.randn(*shape))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 2))


def test_auto_picks_it_and_it_is_gone_afterwards():
    with simulated_device.installed():
        assert pick_device("auto", "float32").torch_device.type == "cuda"
        assert pick_device("auto", "auto").dtype == torch.bfloat16
    plain = torch.ones(2)
    assert plain.to("cpu") is plain
    assert isinstance(plain.add(1), torch.Tensor)
    assert not isinstance(torch.zeros(1), DeviceTensor)


WAITS = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool((x > 0).all()),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "to of another dtype": lambda x: x.to("cpu", torch.float64),
    "tolist": lambda x: x.tolist(),
    "copy_ to the host": lambda x: torch.empty(x.shape).copy_(x),
    "nonzero": lambda x: torch.nonzero(x),
    "a mask as an index": lambda x: x[x > 0],
    "a mask that is assigned to": lambda x: x.clone().index_put_((x > 0,), x[0, 0]),
    "masked_select": lambda x: torch.masked_select(x, x > 0),
    "unique": lambda x: torch.unique(x),
    "equal": lambda x: torch.equal(x, x),
    "nms": lambda x: torchvision.ops.nms(torch.cat([x, x + 1], 1)[:, :4], x[:, 0], 0.5),
    "from pageable memory": lambda x: torch.ones(3).to("cuda"),
    "not blocking, but pageable": lambda x: torch.ones(3).to("cuda", non_blocking=True),
    "pinned, but blocking": lambda x: torch.ones(3).pin_memory().to("cuda"),
    "a list": lambda x: torch.tensor([1.0, 2.0], device="cuda"),
    "a list of its kind": lambda x: x.new_tensor([1.0, 2.0]),
    "an index on the host": lambda x: x[torch.tensor([0, 1])],
    "a list as an index": lambda x: x[[0, 1]],
    "copy_ from the host": lambda x: x.clone().copy_(torch.ones(x.shape)),
    "synchronize": lambda x: torch.cuda.synchronize(),
    "a stream": lambda x: torch.cuda.current_stream().synchronize(),
}
NONE = {
    "arithmetic": lambda x: (x * 2 + x.mean()).clamp(min=0),
    "a number of the host": lambda x: x + torch.tensor(2.0),
    "slices": lambda x: x[1:, :2],
    "rows": lambda x: x[x.argmax(0)],
    "where": lambda x: torch.where(x > 0, x, 0),
    "factories": lambda x: torch.zeros(3, device=x.device) + torch.arange(3, device="cuda"),
    "alike": lambda x: torch.empty_like(x).fill_(3),
    "a rectangle that is filled": lambda x: x.clone()[:1, 1:].fill_(0),
    "pinned": lambda x: torch.ones(3).pin_memory().to("cuda", non_blocking=True),
    "a part of what is pinned": lambda x: torch.ones(3, 4).pin_memory()[1:].to("cuda", non_blocking=True),
    "its own device": lambda x: x.to("cuda"),
    "another type": lambda x: x.half(),
    "on its way": lambda x: x.to("cpu", non_blocking=True),
    "put": lambda x: Device(torch.device("cuda"), torch.float32).put(np.ones(3)[::-1]),
}


@pytest.mark.parametrize("name", WAITS)
def test_counts(gpu, name):
    tensor = on_device(3, 4)
    with gpu.counting() as waits:
        WAITS[name](tensor)
    assert len(waits) == 1, waits


@pytest.mark.parametrize("name", NONE)
def test_does_not_count(gpu, name):
    tensor = on_device(3, 4)
    with gpu.counting() as waits:
        NONE[name](tensor)
    assert waits == []


def test_the_backward_pass_of_a_mask_waits_too(gpu):
    weights = on_device(3, 4).requires_grad_()
    total = weights[weights > 0].sum()
    with gpu.counting() as waits:
        torch.autograd.grad(total, [weights])
    assert len(waits) == 1


def test_the_devices_do_not_mix(gpu):
    tensor = on_device(3, 4)
    with pytest.raises(RuntimeError, match="same device"):
        tensor + torch.ones(3, 4)
    with pytest.raises(RuntimeError, match="same device"):
        torch.cat([torch.ones(3, 4), tensor])
    with pytest.raises(RuntimeError, match="same device"):
        nn.Linear(4, 2)(tensor)
    with pytest.raises(RuntimeError, match="indices should be"):
        torch.ones(3)[device_tensor(torch.tensor([0]))]
    for read in (DeviceTensor.numpy, np.asarray):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            read(tensor)


def test_a_copy_on_its_way_is_garbage_until_the_host_has_waited(gpu):
    copied = on_device(3).to("cpu", non_blocking=True)
    assert (copied == 77).all()
    torch.cuda.synchronize()
    assert torch.equal(copied, on_device(3).cpu())


def test_an_event_covers_what_came_before_and_costs_nothing_after_a_later_wait(gpu):
    first, event = on_device(3).to("cpu", non_blocking=True), torch.cuda.Event()
    event.record()
    second = on_device(3).to("cpu", non_blocking=True)
    with gpu.counting() as waits:
        event.synchronize()
        event.synchronize()
    assert len(waits) == 1
    assert (first != 77).all()
    assert (second == 77).all()
    event.record()
    torch.cuda.synchronize()
    with gpu.counting() as waits:
        event.synchronize()
    assert waits == []


def test_a_module_moves_and_its_parameters_stay_the_same_objects(gpu):
    network = net()
    before = list(network.parameters())
    shared = copy.deepcopy(network, {id(parameter): parameter for parameter in before})
    network.to("cuda", memory_format=torch.channels_last)
    network.to("cuda")
    after = list(network.parameters())
    assert all(old is new for old, new in zip(before, after, strict=True))
    assert all(old is new for old, new in zip(before, shared.parameters(), strict=True))
    assert all(isinstance(value, DeviceTensor) for value in network.state_dict().values())
    assert all(isinstance(value, nn.Parameter) and value.requires_grad for value in after)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_step_is_that_of_the_cpu(gpu, optimiser):
    networks = net().train(), net().train().to("cuda")
    for network in networks:
        device = next(network.parameters()).device
        if optimiser == "sgd":
            optim = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        else:
            optim = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
        for _ in range(2):
            images = torch.linspace(0, 1, 4 * 3 * 64).view(4, 3, 8, 8).to(device)
            loss = nn.functional.cross_entropy(network(images), torch.tensor([0, 1, 1, 0]).to(device))
            optim.zero_grad()
            loss.backward()
            optim.step()
    for name, value in networks[0].state_dict().items():
        torch.testing.assert_close(networks[1].state_dict()[name].cpu(), value)


def test_autocast_and_loss_scaling(gpu):
    network, images = net().to("cuda"), on_device(2, 3, 8, 8)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert network(images).dtype == torch.bfloat16
    scaler, optim = torch.amp.GradScaler("cuda", enabled=True), torch.optim.SGD(network.parameters(), lr=0.1)
    before = network[4].bias.detach().cpu()
    scaler.scale(network(images).sum()).backward()
    scaler.step(optim)
    scaler.update()
    assert not torch.equal(network[4].bias.detach().cpu(), before)


def test_other_threads_are_on_it_too(gpu):
    made = []
    thread = threading.Thread(target=lambda: made.append(torch.ones(3).to("cuda") + 1))
    thread.start()
    thread.join()
    assert made[0].device.type == "cuda"


def test_put_and_fetch_give_the_arrays_back_after_one_wait(gpu):
    device = Device(torch.device("cuda"), torch.float32)
    arrays = {"a": np.arange(6, dtype=np.int64)[::-2], "b": np.float16([[1, 2]]), "c": np.zeros((0, 3), np.uint8)}
    with gpu.counting() as waits:
        tensors = {name: device.put(array) for name, array in arrays.items()}
    assert waits == []
    assert all(isinstance(tensor, DeviceTensor) for tensor in tensors.values())
    arrays["b"][:] = 9  # pinned copies are on their way
    with gpu.counting() as waits:
        fetched = device.fetch(tensors)
    assert len(waits) == 1
    for name, expected in (("a", [5, 3, 1]), ("b", [[1, 2]]), ("c", np.zeros((0, 3)))):
        assert fetched[name].dtype == arrays[name].dtype
        np.testing.assert_array_equal(fetched[name], expected)
    host = Device(torch.device("cpu"), torch.float32)
    assert np.shares_memory(host.put(arrays["b"]).numpy(), arrays["b"])
    assert np.shares_memory(host.fetch({"b": host.put(arrays["b"])})["b"], arrays["b"])


def test_a_network_on_the_device_is_folded_there(gpu):
    images = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8)
    network = net().eval().requires_grad_(False)
    network[1].running_mean.uniform_(-1, 1)
    network[1].running_var.uniform_(0.5, 2)
    expected = network(images)
    folded = fold_batch_norm(network.to("cuda"))
    assert isinstance(folded[1], nn.Identity)
    torch.testing.assert_close(folded(images.to("cuda")).cpu(), expected)


def test_the_recipe_waits_once_for_each_device(gpu):
    images = device_tensor(torch.full((1, 3, 2, 2), 9, dtype=torch.uint8))
    IMAGENET(images)
    with gpu.counting() as waits:
        normalised = IMAGENET(images)
    assert waits == []
    expected = (9 - torch.tensor(IMAGENET.mean)) / torch.tensor(IMAGENET.std)
    torch.testing.assert_close(normalised.cpu()[0, :, 0, 0], expected)
