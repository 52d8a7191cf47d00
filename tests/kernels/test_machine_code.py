"""The machine code of what the backend launches at real sizes, compiled for GPUs that are absent.

The specializations are those that the recorder sees: nothing else is ever compiled on a device.
"""

import pytest

pytest.importorskip("triton", reason="Triton is published for Linux only")

from aot import compile_for, specialization
from roofline import ROWS, Row

FORWARD_BARS = {1: 32, 16: 10}
BACKWARD_BARS = {16: 36}
"""Instructions per token-state and thread; the backward's with those of its re-run."""


def compiled(row: Row, kernel: str, capability: int = 90):
    """Return the code of a row's kernel, and how many token-states a turn of its loops takes."""
    forward, backward = row.runs
    found = specialization((backward if kernel == "backward_kernel" else forward).of(kernel))
    return compile_for(found, capability), found["U"] * row.N * found["BD"] / 32


def per_token_state(row: Row, kernel: str, capability: int = 90) -> float:
    """Return instructions of the hot loops, of which the backward has two, per token-state."""
    code, turn = compiled(row, kernel, capability)
    loops = sorted(map(len, code.loops), reverse=True)
    return sum(loops[: 2 if kernel == "backward_kernel" else 1]) / turn


def row_of(name: str, N: int) -> Row:
    (row,) = [row for row in ROWS if row.name == name and row.N == N]
    return row


def test_backward_compiles_within_its_instructions():
    row = row_of("vmamba s4 r1", 16)
    assert compiled(row, "backward_kernel")[0].spilled_bytes == 0
    assert per_token_state(row, "backward_kernel") <= BACKWARD_BARS[16]


@pytest.mark.parametrize(("name", "N"), [("vmamba s3 r1", 1), ("vmamba s4 r1", 16)])
def test_forward_compiles_within_its_instructions(name, N):
    row = row_of(name, N)
    code, _ = compiled(row, "forward_kernel")
    assert code.spilled_bytes == 0
    assert per_token_state(row, "forward_kernel") <= FORWARD_BARS[N]
    assert not any(opcode.startswith(("SHFL", "LDS")) for opcode in max(code.loops, key=len))
