"""Settings for every test run, read by pytest before it starts a test or a notebook's kernel.

Kernels inherit this process's environment. A value set outside wins, so
`NBKIT_PROFILE=full pytest notebooks` runs the notebooks as a learner does.
"""

import os

os.environ.setdefault("NBKIT_PROFILE", "quick")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the network, and none may use it
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small gain nothing by a second thread


def pytest_xdist_auto_num_workers(config):
    """`pytest` runs the whole suite in two processes, and named files in its own, where they begin
    sooner. No more than two, since notebooks start workers of their own. `-n N` goes first.
    """
    whole = config.args_source is config.ArgsSource.TESTPATHS
    return 2 if whole and (os.cpu_count() or 1) > 1 else 0
