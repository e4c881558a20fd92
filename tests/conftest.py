"""Settings of all tests: hypothesis has no deadline, since first examples compile kernels and machines are busy."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
