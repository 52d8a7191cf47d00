"""The Triton backend without a GPU: interpreted, planned, and compiled for GPUs that are absent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is published for Linux only")

from aot import (
    backward_constants,
    compile_kernel,
    forward_constants,
    types_of,
)
from recorder import recorded

from kernels import KernelError
from kernels.common import launch
from kernels.s6 import triton as backend
from kernels.s6.call import ScanCall
from kernels.s6.triton.backward_pass import backward_kernel
from kernels.s6.triton.forward_pass import carry_kernel, forward_kernel, summary_kernel
from kernels.s6.triton.merge import merge_kernel, ungate_kernel
from kernels.s6.triton.plan import backward_block, forward_block, make_plan

HERE = Path(__file__).parent
FORWARD_N16_BAR, FORWARD_N1_BAR, BACKWARD_N16_BAR = 10, 32, 30
"""Instructions of the hot loop per token-state: at 9 the exponentials bind, at N = 1 at 24."""


def run_cases(**environment):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "triton_cases.py"],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.timeout(280)
def test_interpreted_kernels_match_the_reference():
    run_cases(TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_compiled_kernels_match_the_reference_on_the_device():
    run_cases(TRITON_INTERPRET="0")


def per_token_state(code, N, BD, U):
    """Return instructions of the largest innermost loop per token-state and thread."""
    return max(sum(loop.values()) for loop in code.loops) / (U * N * BD / 32)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize(("N", "bar"), [(1, FORWARD_N1_BAR), (16, FORWARD_N16_BAR)])
def test_forward_compiles_within_its_instructions(capability, dtype, N, bar):
    BD, U = forward_block(768, N)
    constants = forward_constants(N, BD, U)
    types = types_of("forward", dtype)
    code = compile_kernel(forward_kernel, types, constants, capability, maxnreg=128)
    assert code.spilled_bytes == 0 and code.registers <= 128
    assert per_token_state(code, N, BD, U) <= bar
    assert all("SHFL" not in loop and "LDS" not in loop for loop in code.loops)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_backward_compiles_within_its_instructions(capability, dtype):
    BD, U = backward_block(768, 16)
    types = types_of("backward", dtype) | {"grad_x": "*fp32"}
    code = compile_kernel(backward_kernel, types, backward_constants(16, BD, U), capability)
    assert code.spilled_bytes == 0
    assert per_token_state(code, 16, BD, U) <= BACKWARD_N16_BAR


@pytest.mark.parametrize("N", [1, 2, 8])
def test_backward_of_few_states_compiles_without_spilling(N):
    BD, U = backward_block(768, N)
    types = types_of("backward", "bf16") | {"grad_x": "*fp32"}
    code = compile_kernel(backward_kernel, types, backward_constants(N, BD, U), 90)
    assert code.spilled_bytes == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"LOOP": True, "MERGE_LATER": False, "GATED": True},
        {"SEGMENTED": True, "ORDERS_PER_IMAGE": True},
        {"MERGED": False, "MERGE_LATER": False, "GATED": True, "SAVE": False, "HAS_D": False},
        {"SOFTPLUS": False, "HAS_BIAS": False},
    ],
    ids=lambda c: "-".join(c),
)
def test_every_option_of_the_forward_compiles(changes):
    code = compile_kernel(
        forward_kernel, types_of("forward", "fp16"), forward_constants(3, 64, 4, **changes), 80
    )
    assert code.spilled_bytes == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"LOOP": True, "ORDERS_PER_IMAGE": True},
        {"SEGMENTED": True, "Y_PER_ROUTE": True},
        {"SOFTPLUS": False, "HAS_D": False, "HAS_BIAS": False},
    ],
    ids=lambda c: "-".join(c),
)
def test_every_option_of_the_backward_compiles(changes):
    code = compile_kernel(
        backward_kernel, types_of("backward", "fp16"), backward_constants(4, 64, 2, **changes), 80
    )
    assert code.spilled_bytes == 0


def test_helper_kernels_compile():
    shared = {"FAST": True}
    summary = dict.fromkeys(("ORDERS_PER_IMAGE", "SOFTPLUS", "HAS_BIAS"), True)
    types = types_of("forward", "fp32")
    for reverse in (False, True):
        constants = shared | summary | {"N": 4, "BD": 64, "U": 4, "REVERSE": reverse}
        assert compile_kernel(summary_kernel, types, constants, 90).spilled_bytes == 0
        constants = shared | {"BD": 128, "REVERSE": reverse}
        carry = dict(types, states="i32")
        assert compile_kernel(carry_kernel, carry, constants, 90, num_warps=4).spilled_bytes == 0
    plane = dict(types, plane="i32", rows="i32", grad="*fp32", grad_z="*fp32", grad_y="*fp32")
    constants = shared | {"BLOCK": 1024, "GATED": True, "SAVE": True}
    assert compile_kernel(merge_kernel, plane, constants, 90, num_warps=4).spilled_bytes == 0
    constants = shared | {"BLOCK": 1024}
    assert compile_kernel(ungate_kernel, plane, constants, 90, num_warps=4).spilled_bytes == 0


def meta_call(B, K, L, D, N, dtype=torch.bfloat16, gated=True, **options):
    """Return a call of real size without its memory, and a gradient."""

    def empty(*shape, dtype=dtype):
        return torch.empty(*shape, dtype=dtype, device="meta")

    weight = {"dtype": torch.float32}
    call = ScanCall(
        empty(B, L, D), empty(B, K, L, D), empty(K, D, N, **weight), empty(B, K, L, N),
        empty(B, K, L, N), empty(K, D, **weight), empty(B, L, D) if gated else None,
        empty(K, D, **weight), empty(K, L, dtype=torch.int32), True, **options,
    )  # fmt: skip
    return call, empty(B, L, D)


@pytest.mark.parametrize(
    "sizes", [(70_000, 4, 9, 8, 1), (20_000, 4, 9, 8, 1), (30_000, 2, 512, 8, 1)], ids=str
)
@pytest.mark.parametrize("schedule", ["loop", "routes", "segments"])
def test_grids_of_large_batches_fit_the_device(monkeypatch, sizes, schedule):
    """A grid holds 65,535 along its second and third axis."""
    monkeypatch.setenv("SCANNAS_TRITON_SCHEDULE", schedule)
    call, grad_y = meta_call(*sizes)
    with recorded() as launches:
        _, *kept = backend.forward(call, True)
        backend.backward(call, grad_y, *kept)
    assert {"forward_kernel", "backward_kernel", "ungate_kernel"} <= {one.name for one in launches}
    assert [one.grid for one in launches if max(one.grid[1:], default=1) > 65_535] == []
    assert all(one.grid[0] < 2**31 for one in launches)


def test_more_programs_than_a_grid_holds_are_refused():
    with pytest.raises(KernelError, match="a grid holds 2\\^31 - 1: split the batch"):
        launch.launch(None, 2**31)


def plan(batch, routes, tokens, inner, state=1, **options):
    options = {"merges": True, "processors": 132} | options
    return make_plan(batch, routes, tokens, inner, forward_block(inner, state), **options)


def test_schedule_follows_the_documented_rule():
    assert plan(1, 4, 3136, 192).schedule == "segments"
    assert plan(1, 4, 196, 192).schedule == "routes"
    assert plan(512, 4, 196, 384).schedule == "loop"
    assert plan(512, 4, 196, 384, merges=False).schedule == "routes"
    assert plan(128, 4, 3136, 96).schedule == "routes"


@pytest.mark.parametrize("tokens", [256, 1000, 3136, 12544])
def test_segments_cover_the_tokens_in_whole_checkpoints(tokens):
    found = plan(1, 1, tokens, 64)
    assert found.segment_tokens % 32 == 0 and found.segment_tokens >= 64
    assert (found.segments - 1) * found.segment_tokens < tokens
    assert found.segments * found.segment_tokens >= tokens


def test_blocks_avoid_padding():
    assert forward_block(96, 1)[0] == 32
    assert forward_block(768, 1)[0] == 128
    assert forward_block(192, 16)[0] == 64
    assert backward_block(192, 16)[0] == 32


def test_unknown_schedule_is_refused():
    with pytest.raises(KernelError, match="schedule 'fast' is unknown; use auto, loop, routes"):
        plan(1, 1, 1, 1, schedule="fast")
