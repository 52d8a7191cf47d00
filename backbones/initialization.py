"""How weights start. Convolutions keep PyTorch's default unless said otherwise."""

from __future__ import annotations

import math
from functools import partial

import torch
from timm.layers import lecun_normal_, trunc_normal_
from torch import Tensor, nn

LINEAR_STD = 0.02
DT_RANGE = (1e-3, 1e-1)
"""Range of the step sizes at the start: Mamba, arXiv 2312.00752, section 3.6."""


def linear(inputs: int, outputs: int, bias: bool = True, std: float = LINEAR_STD) -> nn.Linear:
    """Build a linear layer: normal of std 0.02 cut at +-2, bias 0 (Swin's rule)."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    trunc_normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def normal(*shape: int, std: float = LINEAR_STD) -> nn.Parameter:
    """Make a table of normal values cut at +-2."""
    return nn.Parameter(trunc_normal_(torch.empty(*shape), std=std))


def uniform(bound: float, *shape: int) -> nn.Parameter:
    """Make a weight uniform in +-bound."""
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


def state_matrix(routes: int, inner: int, state: int) -> nn.Parameter:
    """Make A_log (K, D, N) = log(1..N): the real part of S4D's diagonal."""
    rates = torch.arange(1, state + 1, dtype=torch.float32).log()
    return nn.Parameter(rates.expand(routes, inner, state).clone())


def step_bias(routes: int, inner: int) -> nn.Parameter:
    """Make a dt bias (K, D) whose softplus is log-uniform in DT_RANGE."""
    low, high = (math.log(bound) for bound in DT_RANGE)
    steps = torch.empty(routes, inner).uniform_(low, high).exp()
    return nn.Parameter(steps + torch.log(-torch.expm1(-steps)))


def dynamics(rule: str, sets: int, inner: int, rank: int, state: int) -> dict[str, nn.Parameter]:
    """Make x_proj, dt_proj, dt_bias, A_log and D by a rule of `SSMConfig.init`.

    Source: Mamba, arXiv 2312.00752, section 3.6; "random" and "zero": MzeroMiko/VMamba,
    classification/models/vmamba.py, `initialize` v1 and v2.
    """
    outputs, linear = rank + 2 * state, rule == "linear"
    made = {
        "x_proj": normal(sets, outputs, inner)
        if linear
        else uniform(inner**-0.5, sets, outputs, inner),
        "D": nn.Parameter(torch.ones(sets, inner)),
    }
    if rule == "mamba":
        steps = uniform(rank**-0.5, sets, inner, rank), step_bias(sets, inner)
    elif linear:
        steps = normal(sets, inner, rank), nn.Parameter(torch.zeros(sets, inner))
    else:
        draw = torch.randn if rule == "random" else torch.rand
        steps = tuple(nn.Parameter(0.1 * draw(sets, inner, *last)) for last in ((rank,), ()))
    made["dt_proj"], made["dt_bias"] = steps
    if rule in ("mamba", "linear"):
        return made | {"A_log": state_matrix(sets, inner, state)}
    log = torch.randn if rule == "random" else torch.zeros
    return made | {"A_log": nn.Parameter(log(sets, inner, state))}


def convolutions(model: nn.Module, rule: str) -> None:
    """Start the 2-D convolutions of a network by a rule of `BackboneConfig.conv_init`."""
    if rule == "torch":
        return
    start = lecun_normal_ if rule == "lecun" else partial(trunc_normal_, std=LINEAR_STD)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            start(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def scale_output(weight: Tensor, depth: int) -> None:
    """Start a projection into the residual stream as Mamba does: divided by sqrt(depth)."""
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    with torch.no_grad():
        weight /= math.sqrt(depth)
