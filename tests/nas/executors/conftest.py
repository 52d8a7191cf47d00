"""Ray where only loopback exists."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("ray_driver.py")


@pytest.fixture
def namespace():
    """A command prefix that runs a program where nothing but loopback can be bound."""
    prefix = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"]).returncode != 0:
        pytest.skip("no network namespaces for this user; Ray would bind the machine's address")
    return prefix


@pytest.fixture
def start(namespace, tmp_path):
    """A function that starts a driver; whatever it started is gone when the test is."""
    import psutil

    begun = []

    def start(url, trials, environment=(), **options):
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [*namespace, sys.executable, str(DRIVER), url, "s", str(trials), str(tmp_path / "log")]
            + [f"{key}={value}" for key, value in options.items()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(home), **dict(environment)},
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            for member in (*family, process):
                with suppress(psutil.Error):
                    member.kill()
        process.communicate()
