"""The public operator of SSD, over the routes of an image."""

from __future__ import annotations

from torch import Tensor

from kernels.common.calls import result_shape
from kernels.common.dispatch import define, run
from kernels.common.operators import Backend, Operator
from kernels.s6.loop import plain
from kernels.ssd.call import AXES, SsdCall, check
from kernels.ssd.flops import count

OPERATOR = define(
    Operator(
        name="ssd_scan",
        call=SsdCall,
        axes=AXES,
        check=check,
        result=result_shape,
        state=lambda call: call.B.shape[3],
        kept=("states", "ungated"),
        backends={
            "reference": Backend(module="kernels.ssd.reference", exact=True),
            "chunked": Backend(module="kernels.ssd.chunked", automatic=True, exact=True),
        },
        flops=count,
        plain=lambda call: plain(call.as_s6()),
        cases="kernels.ssd.cases",
    )
)


def ssd_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, *,
    orders: Tensor | None, z: Tensor | None = None, delta_bias: Tensor | None = None,
    delta_softplus: bool = False, merge: str = "sum", backend: str = "auto",
) -> Tensor:  # fmt: skip
    """Scan an image along K routes with one decay a head (SSD, Mamba-2) and merge them.

    Shapes: as `cross_scan`, but that the D channels are H heads of D / H: delta (B, K, L, H);
        A, the negative decay itself, D and delta_bias (K, H); B, C (B, K, L, N), for all heads.
        With orders of one row, this is one scan; A = 0 and delta = 1 is linear attention.
    Units: the result has the dtype of x; the state is float32, or float64 where x is.
    Raises: KernelError for shapes that do not fit, a backend that cannot run the call, and, on
        the CPU, for a row of orders that visits a token twice.
    Source: `kernels.ssd.reference`, which is the specification.
    """
    call = SsdCall(x, delta, A, B, C, D, z, delta_bias, orders, delta_softplus, merge)
    return run(OPERATOR, call, backend)
