"""How far a mean over trainings moves with the seeds of the trainings and with the test images together.

n runs of one method (or of the difference of two, seed by seed) are measured on the same images, so seeds and images
are crossed: the figure of run s is m + seed_s + images + noise_s, where `images` is common to all runs and `noise_s`,
how a run's own mistakes fall on these images, is not. The mean of the runs has the variance

    var(seed) / n + var(images) + var(noise) / n

A hierarchical bootstrap draws seeds, then images. Taken literally, with three to five runs, it is wrong twice: n runs
drawn with replacement have (n - 1) / n of their variance and no tails (three runs: an interval of 95 % holds the truth
in three of four cases), and both draws contain the noise, which is counted three times. The remedies are those of
studies with several readers of the same cases, for which this is the standard problem: the variance is put together of
what the runs differ by (seed + noise, from the runs) and of what the images move in all runs alike (the covariance of
the runs over the samples of images; Obuchowski and Rockette 1995), and the whole has the tails of Student's t with the
degrees of freedom that Hillis (2007) gives, those of Satterthwaite for these two parts; n - 1 where the seeds decide,
infinitely many where the images do. Components of variance from several bootstraps: Beiden, Wagner and Campbell 2000.

n runs, B resamples.
"""

import numpy as np
from numpy.typing import NDArray

LEAST = 3  # runs; two say too little of how far they differ

Values = NDArray[np.float64]


def draws(observed: Values, resampled: Values, generator: np.random.Generator) -> Values:
    """float64 (B,): the mean of the runs as other seeds and other images would have it.

    observed  : float64 (n,), the runs on the images as they are; n >= 2
    resampled : float64 (n, B), the same on resampled images; without NaN, B >= 2
    generator : of the draws of the seeds
    """
    runs, resamples = resampled.shape
    means = resampled.mean(axis=0)
    of_images = float(means.var(ddof=1))
    noise = float((resampled - means).var(axis=1, ddof=1).sum()) / (runs - 1) / runs
    common, of_seeds = max(0.0, of_images - noise), float(observed.var(ddof=1)) / runs
    share = np.sqrt(common / of_images) if of_images > 0 else 0.0
    # Seeds drawn with weights: random, of sum 0, such that the weighted sum has the variance of a mean of the runs.
    weights = generator.standard_normal((resamples, runs))
    weights -= weights.mean(axis=1, keepdims=True)
    moved = weights @ observed / np.sqrt(runs * (runs - 1)) + (means - observed.mean()) * share
    if of_seeds > 0:
        freedom = (of_seeds + common) ** 2 / (of_seeds**2 / (runs - 1))
        moved *= np.sqrt(freedom / generator.chisquare(freedom, resamples))
    return np.asarray(observed.mean() + moved)
