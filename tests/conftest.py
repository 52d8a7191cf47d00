"""What all tests share: the environment that the command line sets before torch is loaded."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
if "PYTEST_XDIST_WORKER" in os.environ:  # the others have the other cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
