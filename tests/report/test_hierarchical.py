"""Seeds and images together: the interval holds the truth as often as it says, where plainer rules do not."""

import numpy as np
import pytest
from scipy.stats import t

from lib.report import bootstrap, hierarchical
from lib.report.outcomes import OfClass, Outcomes

IMAGES, RESAMPLES = 300, 1000  # as many images as digits' test
WEIGHTS = np.random.default_rng(0).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), RESAMPLES).T / IMAGES


def student(runs):
    """The textbook's half width of 95 % of a mean."""
    return t.ppf(0.975, len(runs) - 1) * np.std(runs, ddof=1) / np.sqrt(len(runs))


def simulated(generator, runs, parts):
    """Figures of runs on the images and on resamples, of a truth of 0; parts : variances of seed, image, noise."""
    seed, image, noise = np.sqrt(parts)
    table = image * generator.standard_normal(IMAGES) + noise * generator.standard_normal((runs, IMAGES))
    table += seed * generator.standard_normal((runs, 1)) / np.sqrt(IMAGES)
    return table.mean(axis=1), table @ WEIGHTS


def literal(observed, resampled, generator):
    """Seeds drawn with replacement, then images: what the literal hierarchical bootstrap would do."""
    runs = len(observed)
    counts = generator.multinomial(runs, np.full(runs, 1 / runs), resampled.shape[1]) / runs
    return (counts * resampled.T).sum(axis=1)


def coverage(rule, runs, parts, trials=2000):
    held = 0
    for trial in range(trials):
        generator = np.random.default_rng([1, trial])
        low, high = np.quantile(rule(*simulated(generator, runs, parts), generator), [0.025, 0.975])
        held += low <= 0 <= high
    return held / trials


@pytest.mark.parametrize("runs", [3, 5])
@pytest.mark.parametrize("parts", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (0.3, 1, 1), (1, 1, 1)])
def test_an_interval_of_95_holds_the_truth_in_93_to_97_of_100(runs, parts):
    """2000 draws each, of seeds alone, images alone, a run's own noise alone, and of mixtures."""
    assert 0.93 <= coverage(hierarchical.draws, runs, parts) <= 0.97


def test_the_literal_rule_does_not():
    """What the two corrections are for: too narrow for few seeds, too wide for what differs by run and image."""
    assert coverage(literal, 3, (1, 0, 0), 200) < 0.85
    assert coverage(literal, 5, (0, 0, 1), 200) > 0.97


def test_seeds_alone_are_students_interval():
    observed = np.array([0.70, 0.74, 0.72])
    drawn = hierarchical.draws(observed, np.repeat(observed[:, None], 200_000, axis=1), np.random.default_rng(0))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (low + high) / 2 == pytest.approx(0.72, abs=1e-3)
    assert (high - low) / 2 == pytest.approx(student(observed), rel=0.02)  # 4.303 * .02 / sqrt(3)


def test_images_alone_are_their_bootstrap():
    """Runs that never differ: the resamples as they are."""
    resampled = np.repeat(np.random.default_rng(1).random((1, 50)), 3, axis=0)
    drawn = hierarchical.draws(np.full(3, 0.5), resampled, np.random.default_rng(0))
    assert np.allclose(drawn, resampled[0])


def one_class(generator, images, skill):
    """A run that finds each image's object with a probability of the image's own, and errs below with as many."""
    right = generator.random(images) < skill
    order = np.argsort(-(generator.standard_normal(images) + right))
    names = [f"{n:03}" for n in range(images)]
    return Outcomes(names, {"k": OfClass(order.astype(np.int64), right[order])}, {"k": np.arange(images)})


def test_coverage_of_real_average_precision():
    """A difference of two methods trained alike, so 0, by AP: runs differ by seed, images are hard for both alike."""
    held, trials, images = 0, 150, 60
    for trial in range(trials):
        generator = np.random.default_rng([7, trial])
        hard, runs = generator.uniform(0.3, 0.9, images), {}
        for name in "ab":
            levels = generator.normal(0, 0.04, 5)
            runs[name] = {seed: one_class(generator, images, hard + level) for seed, level in enumerate(levels)}
        here = {name: run[0] for name, run in runs.items()}
        _, (pair,) = bootstrap.compare(here, 200, trial, repeated=runs)
        assert pair.runs == 5
        held += not pair.significant
    assert 0.91 <= held / trials <= 0.99  # 95 %, give or take two standard errors of 150 trials
