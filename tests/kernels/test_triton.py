"""The Triton backend without a GPU: interpreted, and how it cuts a scan."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is published for Linux only")

from kernels import KernelError
from kernels.common import launch
from kernels.s6.triton.plan import backward_block, forward_block, make_plan

HERE = Path(__file__).parent


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


def test_more_programs_than_a_grid_holds_are_refused():
    with pytest.raises(KernelError, match="a grid holds 2\\^31 - 1: split the batch"):
        launch.launch(None, 2**31)


def plan(images, tokens, inner, state=1, **options):
    return make_plan(images, tokens, inner, forward_block(inner, state), processors=132, **options)


def test_tokens_are_cut_where_warps_leave_schedulers_idle():
    assert plan(1, 3136, 192).segments > 1
    assert plan(1, 64, 192).segments == 1
    assert plan(128, 3136, 96).segments == 1
    assert plan(128, 3136, 96).programs == 384
    assert plan(1, 64, 192, schedule="segments").segments == 1
    assert plan(128, 128, 96, schedule="segments").segments == 2


@pytest.mark.parametrize("tokens", [256, 1000, 3136, 12544])
def test_segments_cover_the_tokens_in_whole_checkpoints(tokens):
    found = plan(1, tokens, 64)
    assert found.segment_tokens % 32 == 0 and found.segment_tokens >= 64
    assert (found.segments - 1) * found.segment_tokens < tokens
    assert found.segments * found.segment_tokens >= tokens


def test_blocks_avoid_padding():
    assert forward_block(96, 1)[0] == 32
    assert forward_block(768, 1)[0] == 128
    assert forward_block(192, 16)[0] == 64
    assert backward_block(192, 16)[0] == 32


def test_unknown_schedule_is_refused():
    with pytest.raises(KernelError, match="schedule 'fast' is unknown; use auto, whole, segments"):
        plan(1, 1, 1, schedule="fast")
