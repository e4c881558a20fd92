import numpy as np
import pytest
import torch
from torch import nn

from lib.backbones import low_rank


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 6), nn.ReLU()).eval()


def test_the_best_approximation():
    """Eckart and Young: no matrix of rank t is nearer, and what is missing are the other singular values."""
    layer = layers()[1]
    pair = low_rank.truncate(layer, 3)
    assert pair[0].weight.shape == (3, 12)
    assert pair[0].bias is None
    assert torch.equal(pair[1].bias, layer.bias)
    product = (pair[1].weight @ pair[0].weight).detach().numpy()
    singular = np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)
    missing = np.linalg.norm(layer.weight.detach().numpy() - product)
    assert missing == pytest.approx(np.linalg.norm(singular[3:]), rel=1e-5)
    assert np.linalg.matrix_rank(product, tol=1e-5) == 3


def test_full_rank_changes_nothing():
    whole, both = layers(), layers()
    report = low_rank.compress(both, [8, 6])
    rows = torch.randn(5, 3, 2, 2)
    torch.testing.assert_close(both(rows), whole(rows), atol=1e-5, rtol=1e-5)
    assert [row["kept"] for row in report] == [1, 1]


def test_shapes_and_report():
    """fc6 8 x 12 = 96 weights -> 2 x 12 + 8 x 2 = 40; fc7 6 x 8 = 48 -> 8 + 6 = 14. The paper's 25088 -> 1024 -> 4096
    likewise: 102.8 million weights become 29.9 million."""
    net = layers()
    squares = [np.square(np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)) for layer in (net[1], net[4])]
    report = low_rank.compress(net, [2, 1])
    sizes = [(row["layer"], row["weights_before"], row["weights_after"]) for row in report]
    assert sizes == [("fc6", 96, 40), ("fc7", 48, 14)]
    for row, square in zip(report, squares, strict=True):
        assert row["kept"] == pytest.approx(square[: row["rank"]].sum() / square.sum(), abs=1e-5)
    again = layers()
    low_rank.restore_ranks(again, [2, 1])
    again.load_state_dict(net.state_dict())
    rows = torch.randn(5, 3, 2, 2)
    torch.testing.assert_close(again(rows), net(rows))
    assert 25088 * 1024 + 1024 * 4096 == 29_884_416


@pytest.mark.parametrize(
    ("ranks", "message"),
    [([3], "2 fully connected layers for 1 ranks"), ([9, 1], "rank 9 of fc6"), ([1, 0], "rank 0 of fc7")],
)
def test_ranks_that_do_not_fit(ranks, message):
    with pytest.raises(ValueError, match=message):
        low_rank.compress(layers(), ranks)
