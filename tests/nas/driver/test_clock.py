"""Whose process is alive."""

import os
import subprocess
import sys

import psutil

from nas.driver.clock import SystemClock


def test_own_process_is_alive_and_ids_differ():
    clock = SystemClock()
    first, second = clock.owner(), clock.owner()
    assert first != second
    assert not clock.is_dead(first)


def test_ended_process_is_dead():
    code = "from nas.driver.clock import SystemClock; print(SystemClock().owner())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert SystemClock().is_dead(done.stdout.strip())


def test_process_that_nobody_has_waited_for_is_dead():
    code = "from nas.driver.clock import SystemClock; print(SystemClock().owner(), flush=True)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    owner = child.stdout.readline().strip()
    child.stdout.read()  # until it has ended; it stays a zombie
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert SystemClock().is_dead(owner)
    child.wait()


def test_reused_process_id_is_another_process():
    clock = SystemClock()
    machine, pid, start, token = clock.owner().rsplit("/", 3)
    assert int(pid) == os.getpid()
    assert clock.is_dead(f"{machine}/{pid}/{int(start) - 10}/{token}")


def test_clock_that_is_set_kills_nobody(monkeypatch):
    """Time of day moves by a minute: boot and start with it, the time between them not."""
    clock = SystemClock()
    owner, boot = clock.owner(), psutil.boot_time()
    started = psutil.Process().create_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: boot + 60)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: started + 60)
    assert not clock.is_dead(owner)


def test_process_of_another_machine_is_never_known_to_be_dead():
    clock = SystemClock()
    _, pid, _, token = clock.owner().rsplit("/", 3)
    assert not clock.is_dead(f"other/boot/ns/{pid}/1/{token}")
    assert not clock.is_dead("nonsense")
