"""What R-CNN's box regressors learn from: the features that `extract` stored (R-CNN paper, appendix C)."""

from lib.detectors.rcnn.network import TrainingFeatures
from lib.linear import regression
from lib.linear.task import Given, Learning, Task

reads = regression.reads


def task(given: Given) -> Task[Learning]:
    """Reads the roles `features`, a store of `extract`, and `regions`, the proposals of its rows."""
    return regression.task(given, TrainingFeatures)
