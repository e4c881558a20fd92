import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from lib.visualization.gradients import gradient, ruled
from lib.visualization.sanity import LEVELS, randomised, rank_correlation
from tests.visualization.targets import Small, small

LAYERS = {"head": ["fc.1", "fc.3"], "half": ["trunk.3", "trunk.5"], "all": ["trunk.0"]}


def test_layers_are_drawn_anew_from_the_output_down():
    """Three convolutions before the map: the later half of them, rounded up, goes with `half`."""
    target, changed = small(), []
    kept = {name: value.clone() for name, value in target.network.state_dict().items()}
    for level in LEVELS:
        changed += LAYERS[level]
        network = randomised(target, level, 0)
        for name, value in network.state_dict().items():
            assert torch.equal(value, kept[name]) == (name.rpartition(".")[0] not in changed), (level, name)
    assert all(torch.equal(value, kept[name]) for name, value in target.network.state_dict().items())


def test_layers_that_the_score_does_not_hang_on_are_left_alone():
    """Nor do they count: other levels and the boxes' layers of a one-stage detector."""
    network = Small()
    network.others = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))
    target = small(network=network)
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    for level, count in (("head", 4), ("half", 8), ("all", 10)):
        state = randomised(target, level, 0).state_dict()
        changed = [name for name, value in state.items() if not torch.equal(value, kept[name])]
        assert len(changed) == count
        assert not any(name.startswith("others") for name in changed)


def test_fresh_weights_have_the_layers_own_deviation():
    network = nn.Module()
    network.trunk, network.fc = nn.Conv2d(3, 64, 3), nn.Sequential(nn.Flatten(), nn.Linear(64 * 36, 2))
    nn.init.normal_(network.trunk.weight, std=0.3)
    fresh = randomised(small(network=network), "all", 1).trunk
    # A normal of deviation 1 cut at 2 has a deviation of 0.880.
    assert fresh.weight.std().item() == pytest.approx(0.88 * 0.3, rel=0.06)
    assert fresh.weight.abs().max() <= 0.63
    assert not fresh.bias.any()


def test_the_seed_decides():
    target = small()
    first, same, other = (randomised(target, "all", seed).fc[1].weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_rank_correlation():
    """By hand: ranks 1 2 3 4 and 2 1 4 3: 1 - 6 x 4 / (4 x 15) = 0.6."""
    assert rank_correlation(np.float32([1, 20, 300, 4000]), np.float32([2, 1, 4, 3])) == pytest.approx(0.6)
    assert rank_correlation(np.float32([[1, 2], [3, 4]]), np.float32([[8, 7], [6, 5]])) == pytest.approx(-1)
    assert rank_correlation(np.zeros(5), np.arange(5.0)) is None


def test_it_is_scipys():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 5, 60), random.integers(0, 5, 60)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_the_gradient_goes_with_the_weights_and_guided_stays_longer():
    """Adebayo et al.: over 20 images, the head drawn anew."""
    correlations = {"plain": [], "guided": []}
    target = small(images=20)
    other = randomised(target, "head", 0)
    for rule, values in correlations.items():
        maps = [gradient(target, ruled(network, rule)).numpy() for network in (target.network, other)]
        values += [rank_correlation(*pair) for pair in zip(*maps, strict=True)]
    means = {rule: np.mean([value for value in values if value is not None]) for rule, values in correlations.items()}
    assert abs(means["plain"]) < 0.5
    assert means["guided"] > means["plain"] + 0.2
