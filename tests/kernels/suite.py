"""What every operator must hold, on every backend: checks that its record alone sets up.

A check returns what it finds wrong, in words; nothing is right. The module of an operator's
cases holds CASES, in sizes that reach every branch; TINY ones, for numerical differentiation;
and COUNTED, whose reference carries out every product that the operator's count of
multiply-adds names. A case has a `label` and makes a `problem()`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from kernels.common.backends import use_backend
from kernels.common.conformance import HALF, Problem, errors, failures, run
from kernels.common.dispatch import run as run_call
from kernels.common.operators import Operator

COMPILED = 1e-6
"""Compiled code may fuse the operators around a call, never the call itself."""
HALF_CASES = 5
COUNT_RATIO = (0.5, 3.0)
"""Of operations as fvcore counts them, over multiply-adds: 9 N + 1 over 4 N + 2 for S6."""


def cases_of(operator: Operator) -> Any:
    """Return the module of an operator's cases."""
    return import_module(operator.cases)


def check_values(operator: Operator, backend: str, device: str) -> list[str]:
    """Compare result and gradients with the reference in float64, in every dtype."""
    wrong = []
    cases = cases_of(operator).CASES
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for case in cases if dtype == torch.float32 else cases[:HALF_CASES]:
            found = failures(case, backend, device, dtype)
            wrong += [
                f"{case.label} in {dtype}: {name} is {e:.1e} off" for name, e in found.items()
            ]
    return wrong


def check_gradients(operator: Operator, backend: str, device: str) -> list[str]:
    """Compare the gradients of the reference with finite differences, in float64."""
    wrong = []
    for case in cases_of(operator).TINY if backend == "reference" else ():
        problem = case.problem()
        names = list(problem.tensors)

        def call(*values: Tensor, problem: Problem = problem, names: list[str] = names) -> Tensor:
            return run_call(
                operator, problem.call._replace(**dict(zip(names, values))), "reference"
            )

        leaves = tuple(tensor.requires_grad_() for tensor in problem.tensors.values())
        try:
            torch.autograd.gradcheck(call, leaves)
        except RuntimeError as error:
            wrong.append(f"{case.label}: {str(error).splitlines()[0]}")
    return wrong


class _Multiplications(TorchDispatchMode):
    """Counts the products that PyTorch's operators carry out."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not (torch.is_tensor(result) and result.is_floating_point()):
            return result
        if name in ("mul", "mul_", "addcmul", "addcmul_"):
            self.count += result.numel()
        elif name in ("mm", "bmm"):
            self.count += result.numel() * args[0].shape[-1]
        return result


def check_flops(operator: Operator, backend: str, device: str) -> list[str]:
    """Count the products of the reference; the operator's own count has to be the same."""
    if backend != "reference":
        return []
    call = cases_of(operator).COUNTED.problem().call
    with _Multiplications() as counter:
        operator.backends["reference"].load().forward(call, False)
    shapes = {
        name: tuple(getattr(call, name).shape) if torch.is_tensor(getattr(call, name)) else None
        for name in call._fields
    }
    macs, fvcore = (operator.flops(shapes, convention) for convention in ("macs", "fvcore"))
    wrong = []
    if macs != counter.count:
        wrong.append(f"counts {macs} multiply-adds; its reference carries out {counter.count}")
    if not COUNT_RATIO[0] <= fvcore / counter.count <= COUNT_RATIO[1]:
        wrong.append(f"counts {fvcore} operations for {counter.count} multiply-adds")
    return wrong


def check_graph(operator: Operator, backend: str, device: str) -> list[str]:
    """Ask torch whether the custom op is what its schema says, and compile it in one graph."""
    wrong = []
    dtype = torch.float32
    problem = cases_of(operator).CASES[0].problem().to(device, dtype)
    leaves = {name: tensor.requires_grad_() for name, tensor in problem.tensors.items()}
    call = problem.call._replace(**leaves)
    op = getattr(torch.ops.scannas, operator.name)
    found = torch.library.opcheck(op, (*call, backend, True), raise_exception=False)
    wrong += [f"{name}: {said}" for name, said in found.items() if said != "SUCCESS"]

    def step(*values: Tensor) -> Tensor:
        return run_call(operator, call._replace(**dict(zip(leaves, values))), backend)

    torch.compiler.reset()
    y = torch.compile(step, fullgraph=True, backend="aot_eager")(*leaves.values())
    grads = torch.autograd.grad(y, list(leaves.values()), problem.grad_y)
    found_now = {"y": y.detach()} | {f"grad_{n}": g for n, g in zip(leaves, grads)}
    eager = {name: t.double() for name, t in run(problem, backend).items()}
    off = errors(found_now, eager)
    return wrong + [f"compiled: {name} is {e:.1e} off" for name, e in off.items() if e > COMPILED]


def check_bits(operator: Operator, backend: str, device: str) -> list[str]:
    """Run twice, and each image alone: the same bits, but where torch's own sums may differ."""
    wrong = []
    for case in cases_of(operator).CASES[:HALF_CASES]:
        problem = case.problem().to(device, torch.float32)
        first, second = run(problem, backend), run(problem, backend)
        if operator.backends[backend].deterministic:
            wrong += [
                f"{case.label}: {name} differs from run to run"
                for name in first
                if not torch.equal(first[name], second[name])
            ]
        for at in range(len(problem.grad_y)):
            y = run(problem.image(at), backend, gradients=False)["y"]
            off = errors({"y": y}, {"y": first["y"][at : at + 1].double()})["y"]
            if off > COMPILED:
                wrong.append(f"{case.label}: image {at} depends on the others, by {off:.1e}")
    return wrong


def check_machinery(operator: Operator, backend: str, device: str) -> list[str]:
    """Checkpoint it, export it, and call it under autocast, as a network in training does."""
    wrong = []
    problem = cases_of(operator).CASES[0].problem().to(device, torch.float32)
    leaves = {name: tensor.requires_grad_() for name, tensor in problem.tensors.items()}

    class Net(torch.nn.Module):
        def forward(self, *values: Tensor) -> Tensor:
            call = problem.call._replace(**dict(zip(leaves, values)))
            return run_call(operator, call, "auto")

    net, values = Net(), tuple(leaves.values())
    with use_backend(backend):
        y = net(*values)
        expected = torch.autograd.grad(y, values, problem.grad_y)
        again = checkpoint(net, *values, use_reentrant=False)
        found = torch.autograd.grad(again, values, problem.grad_y)
        if not all(torch.equal(f, e) for f, e in zip(found, expected)):
            wrong.append("checkpointed: other gradients")
        half = [v.bfloat16() if n not in operator.weights else v for n, v in leaves.items()]
        with torch.autocast(device, dtype=torch.bfloat16):
            low = net(*half)
        off = errors({"y": low.detach()}, {"y": y.detach().double()})["y"]
        if low.dtype != torch.bfloat16 or off > 2 * HALF:
            wrong.append(f"autocast: {low.dtype}, {off:.1e} off")
    program = torch.export.export(net, values)
    (node,) = [n for n in program.graph.nodes if operator.name in str(n.target)]
    if "auto" not in node.args:
        wrong.append("exported: the backend is fixed")
    return wrong


CHECKS: dict[str, Callable[[Operator, str, str], list[str]]] = {
    "values": check_values,
    "gradients": check_gradients,
    "flops": check_flops,
    "graph": check_graph,
    "bits": check_bits,
    "machinery": check_machinery,
}
