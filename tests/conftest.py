"""Settings of all tests: hypothesis has no deadline, since first examples compile kernels and machines are busy; one
thread a process, since pytest-xdist has a process for each core and their threads would wait for each other.
"""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch and NumPy are imported
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
