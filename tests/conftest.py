"""What all tests share: the environment that the command line sets before torch is loaded."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
