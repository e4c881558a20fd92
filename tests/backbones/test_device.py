"""Which device and precision a stage gets, and how work is shared between processor and network."""

import threading

import numpy as np
import pytest
import torch

from lib.backbones import device as subject
from lib.backbones.device import Device, pick_device
from lib.stage.errors import InputError
from lib.stage.params import Compute, validate

CPU = Device(torch.device("cpu"), torch.float32)
FAKE = Device(torch.device("meta"), torch.float32)  # any but a CPU


@pytest.fixture(scope="module", autouse=True)
def imported():
    """What torch imports at its first use reads the functions that these tests replace."""
    pick_device("cpu", "float32")


@pytest.fixture
def two_gpus(monkeypatch):
    """torch as it is where there are two GPUs that compute in bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def no_gpu(monkeypatch):
    """torch as it is where there is none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "gpu"])
def test_without_a_gpu(no_gpu, device):
    assert pick_device("auto", "float32").torch_device == torch.device("cpu")
    with pytest.raises(InputError) as error:
        pick_device(device, "auto")
    assert str(error.value) == (
        f"params.yaml: compute.device: is {device!r}, and torch finds no GPU. Allowed: auto, cpu. "
        "Set compute.device: auto."
    )


@pytest.mark.parametrize("device", ["cuda:2", "cuda:7", "cuda:01", "mps", "", "meta"])
def test_with_two_gpus(two_gpus, device):
    assert pick_device("auto", "auto").torch_device == torch.device("cuda")
    assert pick_device("cuda:1", "auto").torch_device == torch.device("cuda:1")
    assert pick_device("cpu", "float32").torch_device == torch.device("cpu")
    with pytest.raises(InputError, match=r"torch finds cuda, cuda:0, cuda:1. Allowed: auto, cpu, cuda, cuda:0, cuda:1"):
        pick_device(device, "auto")


def test_apples_gpu(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps", "float32").torch_device == torch.device("mps")
    assert pick_device("auto", "float32").torch_device == torch.device("cpu")


def test_an_unknown_word_is_refused_with_all_other_faults_of_the_file():
    block = {"device": "cudaa", "workers": 1, "launcher": "loky", "memory_gib": -1.0}
    with pytest.raises(InputError) as error:
        validate({"compute": block}, {"compute": Compute})
    first, second = error.value.faults
    assert str(first) == (
        "params.yaml: compute.device: is 'cudaa' (text). Allowed: auto, cpu, cuda, cuda:1 ..., mps. Did you mean cuda?"
    )
    assert "memory_gib" in second.where
    for word in ("auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps"):
        assert Compute(**{**block, "memory_gib": 1.0, "device": word}).device == word


def test_precision(no_gpu, monkeypatch):
    monkeypatch.setattr(subject, "cpu_has_bfloat16", lambda: True)
    assert pick_device("cpu", "auto").dtype == torch.bfloat16
    assert pick_device("cpu", "auto", training=True).dtype == torch.float32
    monkeypatch.setattr(subject, "cpu_has_bfloat16", lambda: False)
    assert pick_device("cpu", "auto").dtype == torch.float32
    with pytest.raises(InputError, match="float16"):
        pick_device("cpu", "float16")


def test_a_gpu_that_only_emulates_bfloat16_gets_float16(two_gpus, monkeypatch):
    assert pick_device("cuda", "auto").dtype == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert pick_device("cuda", "auto").dtype == torch.float16
    assert pick_device("cuda", "float32").dtype == torch.float32


def test_float32_is_set_and_not_inherited(two_gpus):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    torch.backends.cudnn.benchmark = True
    pick_device("cuda", "float32")
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    assert [backend.fp32_precision for backend in backends] == ["ieee"] * 3
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()


def test_put_keeps_dtype_and_shape():
    for array in (np.arange(6, dtype=np.uint8).reshape(2, 3), np.float32([[1, 2], [3, 4]]).T, np.int64([5])):
        tensor = CPU.put(array)
        assert tensor.device.type == "cpu"
        np.testing.assert_array_equal(tensor.numpy(), array)
        assert tensor.numpy().dtype == array.dtype


def test_fetch_waits_once_for_all(monkeypatch):
    waits = []
    monkeypatch.setattr(Device, "synchronise", lambda self: waits.append(self))
    arrays = CPU.fetch({"a": torch.arange(3), "b": torch.ones(2, 2, dtype=torch.float16)})
    assert waits == [CPU]
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
    assert arrays["b"].dtype == np.float16


def test_synchronise(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waits.append("mps"))
    for name in ("cpu", "cuda:1", "mps"):
        Device(torch.device(name), torch.float32).synchronise()
    assert waits == [torch.device("cuda:1"), "mps"]


def where(threads):
    """A function that notes the thread it runs in."""
    return lambda value: (threads.append(threading.get_ident()), value + 1)[1]


@pytest.mark.parametrize("device", [CPU, FAKE])
@pytest.mark.parametrize("workers", [1, 4])
def test_in_order(device, workers):
    assert list(device.in_order(lambda item: item * 2, lambda half: half + 1, range(20), workers)) == list(
        range(1, 41, 2)
    )
    assert list(device.in_order(str, str, [], workers)) == []


def test_on_a_cpu_the_same_thread_prepares_and_runs_on_one_core(monkeypatch):
    preparing, running, cores = [], [], {}
    monkeypatch.setattr(torch, "set_num_threads", lambda count: cores.update({threading.get_ident(): count}))
    assert list(CPU.in_order(where(preparing), where(running), range(20), 3)) == list(range(2, 22))
    assert sorted(preparing) == sorted(running)
    assert set(running) <= cores.keys()
    assert len(cores) <= 3
    assert set(cores.values()) == {1}


def test_a_gpu_runs_one_item_at_a_time_while_several_threads_prepare():
    """All three workers must be preparing at once, beside the network, or the barrier would break."""
    preparing, running, together = [], [], threading.Barrier(3)

    def prepare(item):
        together.wait(timeout=60)
        return where(preparing)(item)

    assert list(FAKE.in_order(prepare, where(running), range(12), 3)) == list(range(2, 14))
    assert len(set(preparing)) == 3
    assert len(set(running)) == 1
    assert not set(running) & {*preparing, threading.get_ident()}


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_prepared_ahead_is_bounded(workers):
    """Of 100 items, where nobody takes results, as many are prepared as workers, the network and the queues hold."""
    prepared = []
    results = FAKE.in_order(lambda item: (prepared.append(item), item)[1], lambda item: item, range(100), workers)
    assert next(results) == 0
    assert len(prepared) <= workers + 3
    for done in range(1, 90):
        assert next(results) == done
        assert len(prepared) <= done + workers + 3


@pytest.mark.parametrize("device", [CPU, FAKE])
def test_an_error_of_either_part_is_raised(device):
    for prepare, run in ((lambda item: 1 // item, float), (int, lambda item: 1 // item)):
        with pytest.raises(ZeroDivisionError):
            list(device.in_order(prepare, run, [2, 1, 0, 1], 2))
