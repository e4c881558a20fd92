"""What SPPnet's box regressors learn from: regions pooled from the stored maps."""

from lib.detectors.spp.network import TrainingFeatures
from lib.linear import regression
from lib.linear.task import Given, Learning, Task

reads = regression.reads


def task(given: Given) -> Task[Learning]:
    """Reads the roles `features`, a store of maps, `model`, the network, and `regions`, the proposals."""
    return regression.task(given, TrainingFeatures)
