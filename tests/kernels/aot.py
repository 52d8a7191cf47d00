"""Compile the Triton kernels for a GPU that is not there, and read the machine code."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import triton
from recorder import Launch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True, kw_only=True)
class MachineCode:
    """What became of a kernel. loops: the opcodes of its innermost loops."""

    registers: int
    spilled_bytes: int
    loops: list[list[str]]


def _run(tool: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(TOOLS / tool), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
}


@dataclass(frozen=True, kw_only=True)
class Specialization:
    """What Triton compiles of a launch: types, constants, and what multiples of 16 are."""

    kernel: Any
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    multiples: tuple[str, ...]
    options: tuple[tuple[str, Any], ...]

    def __getitem__(self, constant: str) -> Any:
        return dict(self.constants)[constant]


def specialization(launch: Launch) -> Specialization:
    """Return what a device would compile for a launch: a 1 is a constant, a tensor aligned."""
    signature, constants, multiples = {}, {"FAST": True}, []
    for parameter in launch.kernel.params:
        name, value = parameter.name, launch.arguments[parameter.name]
        signature[name] = "constexpr"
        if parameter.is_constexpr:
            constants.setdefault(name, value)
        elif torch.is_tensor(value):
            signature[name] = TYPES[value.dtype]
            if value.storage_offset() * value.element_size() % 16 == 0:
                multiples.append(name)
        elif isinstance(value, float):
            signature[name] = "fp32"
        elif value == 1:
            constants[name] = 1
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0:
                multiples.append(name)
    return Specialization(
        kernel=launch.kernel,
        signature=tuple(signature.items()),
        constants=tuple(constants.items()),
        multiples=tuple(multiples),
        options=tuple(launch.options.items()),
    )


@cache
def compile_for(found: Specialization, capability: int) -> MachineCode:
    """Compile a specialization for sm_<capability> and read its code."""
    place = {name: (index,) for index, name in enumerate(found.kernel.arg_names)}
    source = ASTSource(
        found.kernel,
        dict(found.signature),
        constexprs={place[name]: value for name, value in found.constants},
        attrs={place[name]: [["tt.divisibility", 16]] for name in found.multiples},
    )
    target = GPUTarget("cuda", capability, 32)
    built = triton.compile(source, target=target, options=dict(found.options))
    with tempfile.TemporaryDirectory() as folder:
        cubin = os.path.join(folder, "kernel.cubin")
        Path(cubin).write_bytes(built.asm["cubin"])
        usage = _run("cuobjdump", "-res-usage", cubin)
        code = _run("cuobjdump", "-sass", cubin)
    registers = int(re.search(r"REG:(\d+)", usage)[1])
    spilled = int(re.search(r"STACK:(\d+)", usage)[1]) + int(re.search(r"LOCAL:(\d+)", usage)[1])
    return MachineCode(registers=registers, spilled_bytes=spilled, loops=innermost_loops(code))


def innermost_loops(code: str) -> list[list[str]]:
    """Return the opcodes of every loop that holds no other, in their order, from a listing."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);", code)
    addresses = [int(address, 16) for address, _, _ in lines]
    ranges = []
    for address, opcode, operands in lines:
        target = re.search(r"0x([0-9a-f]+)", operands)
        if opcode.startswith("BRA") and target and int(target[1], 16) < int(address, 16):
            ranges.append((int(target[1], 16), int(address, 16)))
    inner = [r for r in ranges if not any(o != r and r[0] <= o[0] and o[1] <= r[1] for o in ranges)]
    return [
        [opcode for at, (_, opcode, _) in zip(addresses, lines) if low <= at <= high]
        for low, high in inner
    ]
