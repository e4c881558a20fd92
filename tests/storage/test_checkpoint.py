import pickle

import numpy as np
import pytest
import torch

from lib.stage.errors import InputError
from lib.storage import checkpoint


def test_equal_contents_give_equal_bytes(tmp_path):
    whole = torch.arange(10.0)
    checkpoint.save(tmp_path / "a.pt", {"w": whole[2:4], "names": ["x", "x"], "n": 3})
    checkpoint.save(tmp_path / "other-name.pt", {"w": torch.tensor([2.0, 3.0]), "names": ["x", "".join("x")], "n": 3})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "other-name.pt").read_bytes()
    assert checkpoint.load(tmp_path / "a.pt", "w")["w"].tolist() == [2, 3]


def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path):
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    checkpoint.save(tmp_path / "a.pt", {"optimiser": optimiser.state_dict()})
    again = torch.optim.AdamW(net.parameters())
    again.load_state_dict(checkpoint.load(tmp_path / "a.pt")["optimiser"])
    checkpoint.save(tmp_path / "b.pt", {"optimiser": again.state_dict()})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("value", [np.float64(1), np.zeros(2), object()])
def test_other_types_are_refused(tmp_path, value):
    with pytest.raises(TypeError, match="plain types"):
        checkpoint.save(tmp_path / "a.pt", {"x": value})
    assert not (tmp_path / "a.pt").exists()


class Malicious:
    def __reduce__(self):
        return print, ("this must never run",)


def test_malicious_pickle_is_refused(tmp_path, capsys):
    torch.save({"w": Malicious()}, tmp_path / "zip.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Malicious()))
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(InputError, match=r"cannot be loaded"):
            checkpoint.load(tmp_path / name)
    assert "never run" not in capsys.readouterr().out


def test_missing_empty_and_wrong_files(tmp_path):
    with pytest.raises(InputError, match="not there"):
        checkpoint.load(tmp_path / "none.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be loaded"):
        checkpoint.load(tmp_path / "empty.pt")
    checkpoint.save(tmp_path / "a.pt", {"w": 1})
    with pytest.raises(InputError, match=r"has no \['classes'\]"):
        checkpoint.load(tmp_path / "a.pt", "w", "classes")
