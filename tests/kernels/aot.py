"""Compile the Triton kernels for a GPU that is not there, and read the machine code."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.common.launch import power_of_two

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True, kw_only=True)
class MachineCode:
    """What became of a kernel. instructions: of its innermost loops, by opcode."""

    registers: int
    spilled_bytes: int
    loops: list[dict[str, int]]


def _run(tool: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(TOOLS / tool), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def compile_kernel(
    kernel, types: dict[str, str], constants: dict, capability: int, **options: int
) -> MachineCode:
    """Compile one kernel for sm_<capability> and read its code."""
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    place = {name: (index,) for index, name in enumerate(kernel.arg_names)}
    source = ASTSource(
        kernel,
        signature,
        constexprs={place[name]: value for name, value in constants.items()},
        attrs={  # What a launch finds out by itself of pointers, and of widths such as 192.
            place[name]: [["tt.divisibility", 16]]
            for name, kind in signature.items()
            if kind.startswith("*") or name in ("inner", "x_step", "d_step", "z_step")
        },
    )
    options = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True} | options
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = os.path.join(folder, "kernel.cubin")
        Path(cubin).write_bytes(built.asm["cubin"])
        usage = _run("cuobjdump", "-res-usage", cubin)
        code = _run("cuobjdump", "-sass", cubin)
    registers = int(re.search(r"REG:(\d+)", usage)[1])
    spilled = int(re.search(r"STACK:(\d+)", usage)[1]) + int(re.search(r"LOCAL:(\d+)", usage)[1])
    return MachineCode(registers=registers, spilled_bytes=spilled, loops=innermost_loops(code))


def innermost_loops(code: str) -> list[dict[str, int]]:
    """Count the opcodes of every loop that holds no other, from a listing."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);", code)
    addresses = [int(address, 16) for address, _, _ in lines]
    ranges = []
    for address, opcode, operands in lines:
        target = re.search(r"0x([0-9a-f]+)", operands)
        if opcode.startswith("BRA") and target and int(target[1], 16) < int(address, 16):
            ranges.append((int(target[1], 16), int(address, 16)))
    inner = [r for r in ranges if not any(o != r and r[0] <= o[0] and o[1] <= r[1] for o in ranges)]
    loops = []
    for low, high in inner:
        count: dict[str, int] = {}
        for address, (_, opcode, _) in zip(addresses, lines):
            if low <= address <= high:
                name = opcode.split(".")[0]
                count[name] = count.get(name, 0) + 1
        loops.append(count)
    return loops


POINTERS = {
    "forward": "x delta B C z y ungated",
    "backward": "grad_y x delta B C grad_delta grad_x",
}
FLOAT_POINTERS = (
    "A D bias partial states starts scratch grad_x_sum grad_A grad_B grad_C grad_D grad_bias "
    "source weights ends sums"
)
INTEGERS = "batch routes tokens steps inner state programs blocks segments segment_tokens pieces"
STRIDES = [f"{tensor}_{axis}" for tensor in "xdbcswz" for axis in ("b", "k", "step")]


def types_of(direction: str, dtype: str) -> dict[str, str]:
    """Return the types of the run-time arguments of a kernel."""
    types = dict.fromkeys(FLOAT_POINTERS.split(), "*fp32") | {"orders": "*i32", "scale": "fp32"}
    types |= dict.fromkeys(POINTERS[direction].split(), f"*{dtype}")
    return types | dict.fromkeys([*INTEGERS.split(), *STRIDES], "i32")


def forward_constants(N: int, BD: int, U: int, **changes) -> dict:
    """Return the compile-time arguments of the forward, as training a VMamba needs them."""
    constants = dict.fromkeys(("ORDERS_PER_IMAGE", "GATED", "LOOP", "SEGMENTED"), False)
    constants |= dict.fromkeys(
        ("SOFTPLUS", "HAS_D", "HAS_BIAS", "MERGED", "FAST", "SAVE", "ROWS", "PAIRS"), True
    )
    return constants | {"MERGE_LATER": True, "N": N, "BD": BD, "U": U} | changes


def backward_constants(N: int, BD: int, U: int, **changes) -> dict:
    """Return the compile-time arguments of the backward, as training a VMamba needs them."""
    constants = dict.fromkeys(("Y_PER_ROUTE", "ORDERS_PER_IMAGE", "LOOP", "SEGMENTED"), False)
    constants |= dict.fromkeys(("SOFTPLUS", "HAS_D", "HAS_BIAS", "FAST", "ROWS", "PAIRS"), True)
    return constants | {"N": power_of_two(N), "BD": BD, "U": U} | changes
