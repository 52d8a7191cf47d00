"""Which token attends to which through a selective scan, route by route.

A scan is a causal linear attention along its route: what token j gives to token i is
C_i . exp(A (d_{j+1} + ... + d_i)) B_j d_j in each channel. The maps show its absolute value,
the mean over channels, for one token i.
Source: Liu et al., VMamba, arXiv 2401.10166, section 4 and the appendix on activation maps
(query C, key B d, value x, decay as weight).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import kernels.s6.op  # noqa: F401  registers the operator
from kernels.common.orders import full_orders
from kernels.s6.call import ScanCall

Grid = tuple[int, int]


@dataclass(frozen=True)
class Scan:
    """One scan of a batch.

    block: its place, e.g. "stage 1, block 2". grid: (H, W) of the tokens. read: the place in the
    sequence that each token is read from, those of routes with tokens of their own numbered on;
    (B, H * W). windows: of a quadtree, (B, H * W), else None.
    """

    block: str
    grid: Grid
    call: ScanCall
    read: Tensor
    windows: Tensor | None

    @property
    def routes(self) -> int:
        """How many routes the scan has."""
        return self.call.delta.shape[1]

    def attended(self, image: int, token: int) -> np.ndarray:
        """Return what a token takes from every other, route by route.

        Shapes: (K, H, W); zero where a route does not come, or comes later.
        """
        maps = []
        for route in range(self.routes):
            steps = self.read[image]
            if self.call.x_per_route and self.call.orders is None:
                steps = steps - route * self.call.delta.shape[2]
            inside = (steps >= 0) & (steps < self.call.delta.shape[2])
            found = torch.zeros(len(steps))
            if inside[token]:
                weights = attention_row(self.call, image, route, int(steps[token]))
                found[inside] = weights[steps[inside]]
            maps.append(found.view(self.grid).numpy())
        return np.stack(maps)


def attention_row(call: ScanCall, image: int, route: int, token: int) -> Tensor:
    """Return what one token of a sequence takes from all. Shapes: (L,), zero where it comes later.

    The skip D and the gate are left out: they act on the token itself.
    """
    order = full_orders(call.orders, call.delta)[image, route].long()
    at = torch.nonzero(order == token).flatten()
    found = torch.zeros(call.delta.shape[2])
    if not len(at):  # the route leaves the token out
        return found
    walked = order[: int(at) + 1]
    delta = call.delta[image, route].float()
    if call.delta_bias is not None:
        delta = delta + call.delta_bias[route].float()
    delta = F.softplus(delta) if call.delta_softplus else delta
    delta = delta[walked]
    since = delta.flip(0).cumsum(0).flip(0) - delta  # summed over the steps after each
    b, c = call.B[image, route].float()[walked], call.C[image, route, token].float()
    weights = torch.zeros_like(delta)
    for state, rate in enumerate(call.A[route].float().unbind(-1)):
        weights += torch.exp(since * rate) * (b[:, state, None] * c[state])
    found[walked] = (weights * delta).abs().mean(-1)
    return found


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the arguments of every scan that is run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: list[ScanCall] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.scannas.cross_scan.default:
            kept: list[Any] = [a.detach() if isinstance(a, Tensor) else a for a in args]
            self.made.append(ScanCall(*kept[: len(ScanCall._fields)]))
        return func(*args, **(kwargs or {}))


def record(model: Any, images: Tensor) -> list[Scan]:
    """Run a network over images and return its scans, those that lay out the whole map.

    Shapes: images (B, C, S, S), normalized.
    """
    found: list[Scan] = []
    with torch.no_grad(), ExitStack() as stack, _Calls() as calls:
        for number, stage in enumerate(model.stages, start=1):
            for place, block in enumerate(stage.blocks, start=1):
                mixer = block.mixer
                if hasattr(mixer, "layout"):
                    name = f"stage {number}, block {place}"
                    stack.enter_context(_watched(mixer, name, calls, found))
        model(images)
    return found


@contextmanager
def _watched(mixer: Any, block: str, calls: _Calls, found: list[Scan]) -> Iterator[None]:
    """Let a mixer's layout say how it lays tokens out, and keep the scan that follows."""
    laid: list[tuple[Grid, Any, Tensor | None]] = []
    plain = mixer.layout.lay_out

    def lay_out(x: Tensor, grid: Grid, sign: Any, shift: Any) -> Any:
        made = plain(x, grid, sign, shift)
        divided = getattr(mixer.layout, "windows", None)
        windows = None if divided is None else divided(x, grid, sign, shift)
        laid.append((grid, made, windows))
        return made

    def after(*_: object) -> None:
        for grid, made, windows in laid:
            read = _read_from(made, grid)
            found.append(Scan(block, grid, calls.made[-1], read, windows))
        laid.clear()

    mixer.layout.lay_out = lay_out
    hook = mixer.register_forward_hook(after)
    try:
        yield
    finally:
        hook.remove()
        del mixer.layout.lay_out


def _read_from(made: Any, grid: Grid) -> Tensor:
    """Return the number of the step that each token of the map is read from: (B, H * W)."""
    shape = made.sequence.shape[:-1]
    numbers = torch.arange(shape[1:].numel(), dtype=torch.float64).view(shape[1:])
    read: Tensor = made.restore(numbers.expand(shape)[..., None])
    return read[:, : grid[0] * grid[1], 0].round().long()
