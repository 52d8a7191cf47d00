"""What the Triton backend launches, moves and allocates at real sizes, without a device."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is published for Linux only")

from recorder import Recording, distinct_bytes, recorded
from roofline import ROWS, Row

from kernels.common.launch import H100_PROCESSORS
from kernels.s6 import triton as backend

FORWARD_BAR, BACKWARD_BAR = 1.15, 1.3
"""Bytes moved over those that a fused scan must move."""
FORWARD_TODAY, BACKWARD_TODAY = {1: 1.42, 16: 1.30}, {1: 1.40, 16: 2.81}
"""What it is at most. Forward: routes are added up in float32 in memory, which the L2 cache holds
or not. Backward, at 16 states: blocks of 32 channels each leave a share of the gradients of B, C.
"""
LEAST_BUSY = 0.85
ids = [f"{row.name} N{row.N}" for row in ROWS]


def ratios(row: Row) -> tuple[float, float]:
    forward, backward = row.runs
    return forward.moved / row.least[0], backward.moved / row.least[1]


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_traffic_does_not_grow(row):
    forward, backward = ratios(row)
    assert forward <= FORWARD_TODAY[row.N] and backward <= BACKWARD_TODAY[row.N]


@pytest.mark.xfail(strict=True, reason="1.24 to 1.41: the sums of routes, written and read")
@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_forward_moves_what_a_fused_scan_must(row):
    assert ratios(row)[0] <= FORWARD_BAR


MISS_BACKWARD = [row for row in ROWS if row.N == 16 or row.name in ("vmamba s1 r1", "vmamba s4 r1",
                                                                    "vmamba s4 r2")]  # fmt: skip


@pytest.mark.parametrize("row", [r for r in ROWS if r not in MISS_BACKWARD], ids=lambda r: r.name)
def test_backward_moves_what_a_fused_scan_must(row):
    assert ratios(row)[1] <= BACKWARD_BAR


@pytest.mark.xfail(strict=True, reason="1.32 to 1.40 at one state, 1.7 to 2.8 at sixteen: shares")
@pytest.mark.parametrize("row", MISS_BACKWARD, ids=lambda r: f"{r.name} N{r.N}")
def test_backward_of_other_layers_moves_what_a_fused_scan_must(row):
    assert ratios(row)[1] <= BACKWARD_BAR


def large(recording: Recording, row: Row) -> list[tuple[str, tuple[int, ...]]]:
    """Return operands and allocations of the size of a result per route."""
    size = row.B * row.K * row.L * row.D
    return [
        (f"{launch.name}: {name}", tuple(tensor.shape))
        for launch in recording.launches
        for name, tensor in launch.tensors.items()
        if tensor.numel() == size
    ]


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_no_result_of_a_single_route_is_stored(row):
    forward, backward = row.runs
    inputs = {"x", "delta"} if row.per_route else {"delta"}
    results = {"grad_x", "grad_delta"} if row.per_route else {"grad_delta"}
    found = {name.split(": ")[1] for name, _ in large(forward, row)}
    assert found == inputs
    found = {name.split(": ")[1] for name, _ in large(backward, row)}
    assert found == inputs | results


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_memory_is_the_results_and_one_sum_of_routes(row):
    forward, backward = row.runs
    image = row.B * row.L * row.D
    kept = sum(distinct_bytes(forward.of("forward_kernel").arguments[n])
               for n in ("states", "ungated"))  # fmt: skip
    assert forward.allocated <= 1.001 * (kept + (2 + 4) * image) + 2**20
    routes = row.K if row.per_route else 1
    shares = 2 * sum(distinct_bytes(backward.of("backward_kernel").arguments[n])
                     for n in ("grad_B", "grad_A"))  # fmt: skip
    results = (2 * row.K + 2 * routes) * image + (0 if row.per_route else 4 * image)
    gate = 4 * image if row.per_route else 0
    assert backward.allocated <= 1.05 * (results + gate + 2 * shares) + 40 * 2**20


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_programs_fill_the_device_evenly(row):
    for recording in row.runs:
        for launch in recording.launches:
            (grid,) = launch.grid
            assert grid < 2**31
            programs = launch.arguments.get("programs", grid)
            rounds = -(-programs // grid)
            processors = -(-grid // H100_PROCESSORS) * H100_PROCESSORS
            assert programs / (rounds * grid) >= LEAST_BUSY, launch.name
            assert grid / processors >= LEAST_BUSY, (launch.name, grid)


@pytest.mark.parametrize(
    "sizes", [(70_000, 4, 9, 8, 1), (20_000, 4, 9, 8, 1), (30_000, 2, 512, 8, 1)], ids=str
)
@pytest.mark.parametrize("schedule", ["whole", "segments"])
def test_grids_of_large_batches_fit_the_device(monkeypatch, sizes, schedule):
    """A grid holds 65,535 along its second and third axis."""
    monkeypatch.setenv("SCANNAS_TRITON_SCHEDULE", schedule)
    B, K, L, D, N = sizes
    for per_route in (False, True):
        forward, backward = Row("large", D, L, N, K=K, per_route=per_route, B=B).runs
        launches = forward.launches + backward.launches
        assert [one.name for one in launches if len(one.grid) > 1] == []
        assert all(one.grid[0] < 2**31 for one in launches)
        assert {"forward_kernel", "backward_kernel"} <= {one.name for one in launches}


def test_rows_that_lie_apart_are_not_copied():
    """As a mixer hands them over: halves of one projection, routes that share by `expand`."""
    call, grad_y = Row("apart", 192, 196, 1, per_route=True, K=2).call()
    halves = torch.empty(128, 196, 384, dtype=torch.bfloat16, device="meta")
    x, z = halves.chunk(2, -1)
    delta = call.delta[:, :1].expand(-1, 2, -1, -1)
    apart = call._replace(x=x, z=z, delta=delta)
    with recorded() as forward:
        _, *kept = backend.forward(apart, True)
    with recorded() as backward:
        backend.backward(apart, grad_y, *kept)
    copies = [name for name, _ in forward.operators + backward.operators
              if name in ("clone", "copy_", "_to_copy", "contiguous")]  # fmt: skip
    assert len(copies) <= 2, copies  # The decays, which are transposed.


def test_segments_add_one_route_a_launch():
    forward, backward = Row("alone", 192, 3136, 1, B=1).runs
    walked = [(one.arguments["from_route"], one.arguments["to_route"])
              for one in forward.launches + backward.launches
              if one.name in ("forward_kernel", "backward_kernel")]  # fmt: skip
    assert walked == [(k, k + 1) for k in range(4)] * 2
