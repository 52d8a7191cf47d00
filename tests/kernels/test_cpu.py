"""The numba backend against the float64 reference, and what its threads must not change."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from kernels import KernelError, cross_scan
from kernels.common import compiled, threads
from kernels.common.conformance import run
from kernels.s6 import cpu as backend
from kernels.s6.cases import CASES, ScanShape, make_problem


def test_strided_inputs_give_the_same_bits():
    problem = make_problem(CASES[0]).to("cpu", torch.float32)
    expected = run(problem, "numba")
    strided = {}
    for name, tensor in problem.tensors.items():
        wide = torch.full((*tensor.shape, 3), float("nan"))
        wide[..., 1] = tensor
        strided[name] = wide[..., 1].requires_grad_()
        assert not strided[name].is_contiguous()
    y = cross_scan(
        **strided, orders=problem.call.orders.long(), delta_softplus=True, backend="numba"
    )
    gradients = torch.autograd.grad(y, list(strided.values()), problem.grad_y)
    assert torch.equal(y, expected["y"])
    for name, gradient in zip(strided, gradients):
        assert torch.equal(gradient, expected[f"grad_{name}"]), name


def test_rows_apart_are_read_where_they_lie(monkeypatch):
    """As a mixer hands them over: halves and thirds of one projection, routes that share."""
    problem = make_problem(ScanShape(B=2, K=2, L=9, D=20, N=4)).to("cpu", torch.float32)
    call = problem.call
    wide = torch.cat([call.x, call.z], -1)
    steps = torch.cat([call.B, call.C], -1)
    x, z = wide.chunk(2, -1)
    B, C = steps.chunk(2, -1)
    delta = call.delta[:, :1].expand(-1, 2, -1, -1)
    apart = call._replace(x=x, z=z, B=B, C=C, delta=delta)
    near = apart._replace(**{name: t.contiguous() for name, t in apart._asdict().items()
                             if torch.is_tensor(t)})  # fmt: skip
    assert not any(t.is_contiguous() for t in (x, z, B, C, delta))
    expected, *kept = backend.forward(near, True)
    gradients = backend.backward(near, problem.grad_y, *kept)
    grad_y, copies = problem.grad_y, []
    real = torch.Tensor.contiguous

    def contiguous(tensor, *args, **kwargs):
        if not tensor.is_contiguous() and tensor.numel() > call.A.numel():
            copies.append(tuple(tensor.shape))
        return real(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "contiguous", contiguous)
    y, *kept = backend.forward(apart, True)
    found = backend.backward(apart, grad_y, *kept)
    assert copies == []
    assert torch.equal(y, expected)
    assert all(torch.equal(found[name], gradients[name]) for name in gradients)


def test_expanded_route_input_and_gradient_are_read_right():
    problem = make_problem(CASES[0]).to("cpu", torch.float32)
    t = dict(problem.tensors)
    call = {"orders": problem.call.orders, "delta_softplus": True, "backend": "numba"}
    shared = cross_scan(**t, **call)
    routes = cross_scan(**dict(t, x=t["x"].unsqueeze(1).expand(-1, 2, -1, -1)), **call)
    assert torch.equal(shared, routes)
    leaf = t.pop("x").detach().clone().requires_grad_()
    y = cross_scan(leaf, **t, **call)
    y.sum().backward()  # The gradient of a sum is one number, expanded.
    (dense,) = torch.autograd.grad(cross_scan(leaf, **t, **call), leaf, torch.ones_like(y))
    assert leaf.grad.isfinite().all() and torch.equal(leaf.grad, dense)


def test_every_element_is_written_even_over_poison():
    """Buffers come uninitialized; a tail left out would show what was there before."""
    problem = make_problem(CASES[1]).to("cpu", torch.float32)
    expected = run(problem, "numba")
    real_empty = torch.empty
    try:
        torch.empty = lambda *a, **k: real_empty(*a, **k).fill_(float("nan"))
        found = run(problem, "numba")
    finally:
        torch.empty = real_empty
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


LARGE = ScanShape(B=3, K=2, L=97, D=200, N=4)
"""Large enough to be cut into slices."""


@pytest.mark.parametrize("openmp", [True, False])
def test_bits_do_not_depend_on_the_number_of_threads(restore_threads, monkeypatch, openmp):
    if not openmp:
        monkeypatch.setattr(threads, "_openmp", None)
    problem = make_problem(LARGE).to("cpu", torch.float32)
    torch.set_num_threads(1)
    expected = run(problem, "numba")
    for count in (2, 3, 2):
        torch.set_num_threads(count)
        found = run(problem, "numba")
        assert all(torch.equal(found[name], expected[name]) for name in expected), count


def test_calls_from_several_python_threads_agree():
    problem = make_problem(LARGE).to("cpu", torch.float32)
    expected = run(problem, "numba")
    found = []
    workers = [
        threading.Thread(target=lambda: found.append(run(problem, "numba"))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 3
    assert all(torch.equal(one[name], expected[name]) for one in found for name in expected)


class ScanEachItem(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        problem = make_problem(LARGE).to("cpu", torch.float32)
        return run(problem, "numba")["y"], torch.get_num_threads(), os.getpid()


def test_forked_loader_workers_compute_the_same_bits():
    expected = run(make_problem(LARGE).to("cpu", torch.float32), "numba")["y"]
    loader = DataLoader(
        ScanEachItem(), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    for y, count, pid in loader:
        assert torch.equal(y, expected) and count == 1 and pid != os.getpid()


def _scan_in_child(problem, queue):
    torch.set_num_threads(2)  # torch's own operators would hang now if they used both.
    y = cross_scan(
        **problem.tensors, orders=problem.call.orders, delta_softplus=True, backend="numba"
    )
    queue.put((threads.describe(), y.numpy().tobytes()))


def test_forked_child_with_threads_of_its_own_ends():
    problem = make_problem(LARGE).to("cpu", torch.float32)
    expected = run(problem, "numba", gradients=False)["y"].numpy().tobytes()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_scan_in_child, args=(problem, queue), daemon=True)
    child.start()
    kind, found = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0 and kind == "python" and found == expected


@pytest.mark.parametrize("row", [[0, 1, 1], [0, 1, 3], [-1, 0, 1]])
@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_orders_that_skip_a_token_are_rejected(row, backend):
    problem = make_problem(ScanShape(K=1, L=3)).to("cpu", torch.float32)
    with pytest.raises(KernelError, match=r"row 0 is not a permutation of 0\.\.2"):
        cross_scan(**problem.tensors, orders=torch.tensor([row]), backend=backend)


@pytest.mark.parametrize("openmp", [True, False])
def test_failure_in_a_slice_is_raised_by_the_caller(restore_threads, monkeypatch, openmp):
    if not openmp:
        monkeypatch.setattr(threads, "_openmp", None)
    torch.set_num_threads(2)
    done = []

    def task(i):
        if i == 1:
            raise ValueError("slice 1")
        done.append(i)

    with pytest.raises(ValueError, match="slice 1"):
        threads.run_slices(task, 2)
    assert set(done) <= {0}


CALL_A_KERNEL = """
import os, sys
import numba, numpy as np, torch  # Once, for all turns: that is most of the time.

def turn():
    from kernels.s6.cpu import forward_pass as forward
    forward.first_bad_order(np.arange(3, dtype=np.int32), 1, 3, 3)
    return sum(forward.first_bad_order.stats.cache_hits.values())

for change in sys.argv[1:]:
    if change != "nothing":
        with open(change, "a") as source:
            source.write("# changed\\n")
    child = os.fork()
    if child == 0:
        print(turn(), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_kernels_on_disk_are_found_until_the_vector_type_changes(tmp_path):
    """numba itself looks at the kernel's own file alone."""
    root = Path(compiled.__file__).parents[2]
    shutil.copytree(root / "kernels", tmp_path / "kernels")
    cache = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "c")}
    changes = ["nothing", "nothing", "kernels/common/lanes.py", "nothing"]
    done = subprocess.run(
        [sys.executable, "-c", CALL_A_KERNEL, *changes, "kernels/s6/cpu/backward_pass.py"],
        env={**os.environ, **cache}, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["0", "1", "0", "1", "0"]
