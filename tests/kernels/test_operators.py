"""Every registered operator on every backend, and an operator that this file adds."""

import sys
from types import ModuleType
from typing import NamedTuple

import pytest
import suite
import torch
from torch import Tensor

from kernels import KernelError, operators, register
from kernels.common import operators as registry
from kernels.common.backends import why_not
from kernels.common.conformance import Problem
from kernels.common.dispatch import define, run
from kernels.common.operators import Backend, Operator

RUNNABLE = [
    (one, name)
    for one in operators()
    for name in one.backends
    if why_not(name, "cpu", torch.float32, of=one) is None
]


@pytest.mark.parametrize("check", suite.CHECKS)
@pytest.mark.parametrize(("operator", "backend"), RUNNABLE, ids=lambda v: getattr(v, "name", v))
def test_operator_conforms(operator, backend, check):
    assert suite.CHECKS[check](operator, backend, "cpu") == []


# -- an operator of one's own: a decayed cumulative sum over the tokens of an image --


class SumCall(NamedTuple):
    """Shapes: x (B, L, D); decay (D,)."""

    x: Tensor
    decay: Tensor


class Case:
    label = "sum"

    def problem(self):
        return Problem(
            operator=sys.modules["decayed_sum"].OPERATOR,
            call=SumCall(torch.randn(2, 5, 3).double(), torch.rand(3).double()),
            grad_y=torch.randn(2, 5, 3).double(),
        )


def decayed_sum(call):
    h, steps = torch.zeros_like(call.x[:, 0]), []
    for x_t in call.x.unbind(1):
        h = call.decay * h + x_t
        steps.append(h)
    return torch.stack(steps, 1).to(call.x.dtype)


class Module(ModuleType):
    """A file that holds an operator; its parts may be replaced by wrong ones."""

    def __init__(self, name, macs=lambda b, n, d: b * n * d, backward=None, forward=None):
        super().__init__("decayed_sum")
        self._forward, self._backward = forward or decayed_sum, backward
        self.CASES = self.TINY = (Case(),)
        self.COUNTED = Case()
        sys.modules["decayed_sum"] = self
        self.OPERATOR = define(
            Operator(
                name=name,
                call=SumCall,
                axes={"x": ("B L D",), "decay": ("D",)},
                result=lambda call: tuple(call.x.shape),
                backends={"reference": Backend(module="decayed_sum", exact=True)},
                flops=lambda shapes, convention: macs(*shapes["x"]),
                tables=(),
                plain=decayed_sum,
                cases="decayed_sum",
            )
        )

    def kept(self, call):
        return []

    def forward(self, call, save):
        return (self._forward(call),)

    def backward(self, call, grad_y):
        h, carried = decayed_sum(call), torch.zeros_like(call.x[:, 0])
        found = {"x": torch.empty_like(call.x), "decay": torch.zeros_like(call.decay)}
        for t in reversed(range(call.x.shape[1])):
            carried = grad_y[:, t] + carried
            found["x"][:, t] = carried
            if t > 0:
                found["decay"] += (carried * h[:, t - 1]).sum(0)
            carried = call.decay * carried
        return found if self._backward is None else self._backward(found)


@pytest.fixture
def add(monkeypatch, request):
    """Add an operator as CONTRIBUTING says: a module with its record, and one line."""
    monkeypatch.setattr(registry, "_homes", dict(registry._homes))
    numbers = iter(range(9))

    def one(**parts):
        name = f"decayed_sum_{abs(hash(request.node.name))}_{next(numbers)}"
        Module(name, **parts)
        register(name, "decayed_sum")
        return operators()[-1]

    yield one
    sys.modules.pop("decayed_sum", None)


def findings(operator):
    return {name: check(operator, "reference", "cpu") for name, check in suite.CHECKS.items()}


def test_new_operator_is_one_module_and_one_line(add):
    operator = add()
    assert findings(operator) == {name: [] for name in suite.CHECKS}
    call = SumCall(torch.ones(1, 3, 2), torch.tensor([0.5, 0.0]))
    assert run(operator, call)[0].tolist() == [[1, 1], [1.5, 1], [1.75, 1]]
    with pytest.raises(KernelError, match=r"decay has shape \(3,\); expected \(D,\) = \(2,\)"):
        run(operator, call._replace(decay=torch.ones(3)))
    with pytest.raises(KernelError, match="has no such backend; it has reference"):
        run(operator, call, "numba")


def test_wrong_gradient_is_caught(add):
    def forgets_a_half(found):
        return found | {"decay": found["decay"] / 2}

    found = findings(add(backward=forgets_a_half))
    assert "Jacobian mismatch" in found["gradients"][0]


def test_count_that_lies_is_caught(add):
    assert "counts 15 multiply-adds" in findings(add(macs=lambda b, n, d: n * d))["flops"][0]


def test_result_that_depends_on_other_images_is_caught(add):
    found = findings(add(forward=lambda call: decayed_sum(call) - call.x.mean()))
    assert "depends on the others" in found["bits"][0]


def test_shape_that_its_record_denies_is_caught(add):
    operator = add(forward=lambda call: decayed_sum(call)[:, :-1].clone())
    with pytest.raises(RuntimeError, match=r"size of tensor|shape"):
        findings(operator)


def test_name_is_taken_once(add):
    name = add().name
    with pytest.raises(KernelError, match="is registered already, by decayed_sum"):
        register(name, "elsewhere")
    with pytest.raises(KernelError, match="operator 'nothing' is unknown; use one of cross_scan"):
        registry.operator("nothing")
