"""An existing Ray cluster of two nodes, real ones: own mounts each, and loopback alone between."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from doubles import new_study, settings
from sqlalchemy import select

from nas.driver.clock import SystemClock
from nas.store.tables import Run

ROOT = Path(__file__).resolve().parents[3]
# The second node has a name and a GPU, so it says, and a file system of its own on $ALONE. All dies
# with the first process.
CLUSTER = """
ip link set lo up
ray get-auth-token --generate >/dev/null 2>&1
ray start --head --node-ip-address=127.0.0.1 --port=6399 --num-cpus=1 --num-gpus=0 \
    --include-dashboard=false --temp-dir="$HOME" >"$HOME/head.log" 2>&1
unshare --mount --uts sh -c 'hostname second && mount -t tmpfs tmpfs "$ALONE" && exec ray start \
    --address=127.0.0.1:6399 --node-ip-address=127.0.0.2 --num-cpus=1 --num-gpus=1' \
    >"$HOME/node.log" 2>&1
exec "$@"
"""


@pytest.fixture
def on_cluster(tmp_path):
    """A function that runs Python code on the head node; gives what it printed."""
    isolated = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*isolated, "true"]).returncode != 0:
        pytest.skip("no namespaces for this user; Ray would bind the machine's address")
    home = tempfile.mkdtemp(prefix="ray")  # short: the path of a socket has a limit
    (tmp_path / "alone").mkdir()

    def call(code, *args):
        done = subprocess.run(
            [*isolated, "sh", "-c", CLUSTER, "sh", sys.executable, "-c", code, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=280,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'nas'}",
                "HOME": home,
                "ALONE": str(tmp_path / "alone"),
                "RAY_AUTH_MODE": "token",
                "RAY_USAGE_STATS_ENABLED": "0",
                "OMP_NUM_THREADS": "1",
            },
        )
        logs = [p.read_text() for p in Path(home).glob("*.log")]
        assert done.returncode == 0, (done.stderr, logs)
        return done.stdout

    yield call
    shutil.rmtree(home, ignore_errors=True)


TRAIN = """
import sys
from doubles import FakeProxy
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.errors import StudyError
from nas.executors.ray_tune import RayExecutor

for url in sys.argv[1:]:
    executor = RayExecutor(address="127.0.0.1:6399", proxy=FakeProxy(seconds=0.2))
    try:
        print("END", run(open_study("s", url), executor).reason)
    except StudyError as error:
        print("REFUSED", error)
"""


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_node_that_does_not_see_the_checkpoints_is_named(on_cluster, tmp_path):
    """Checkpoints lie beside the database; where all nodes see them, the cluster trains."""
    urls = [f"sqlite:///{tmp_path / name}/nas.db" for name in ("alone", "shared")]
    alone, shared = (new_study(url, settings(trials=4), clock=SystemClock()) for url in urls)
    refused, ended = on_cluster(TRAIN, *urls).splitlines()[-2:]
    assert refused.startswith("REFUSED node 127.0.0.2 does not see")
    assert "give --checkpoints a folder that all nodes share" in refused
    assert alone.store.read(lambda s: list(s.scalars(select(Run)))) == []
    assert ended == "END 4 of 4 candidates are done"
    rows = shared.store.read(lambda s: list(s.scalars(select(Run))))
    assert [r.state for r in rows] == ["complete"] * 4
    for study in (alone, shared):
        assert not [path for path in study.checkpoints.rglob("*") if path.is_file()]
        study.close()
