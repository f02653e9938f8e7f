"""Settings for every test run, read by pytest before it starts a test or a notebook's kernel.

Kernels inherit this process's environment. A value set outside wins, so
`NBKIT_PROFILE=full pytest notebooks` runs the notebooks as a learner does.
"""

import os

os.environ.setdefault("NBKIT_PROFILE", "quick")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the network, and none may use it
