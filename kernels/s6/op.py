"""The two public operators: a scan over the routes of an image, and its case of one route."""

from __future__ import annotations

from torch import Tensor

from kernels.common.calls import check, result_shape
from kernels.common.dispatch import define, run
from kernels.common.operators import Backend, Operator
from kernels.errors import KernelError
from kernels.s6.call import AXES, ScanCall
from kernels.s6.flops import count
from kernels.s6.loop import plain

OPERATOR = define(
    Operator(
        name="cross_scan",
        call=ScanCall,
        axes=AXES,
        check=check,
        result=result_shape,
        state=lambda call: call.A.shape[2],
        kept=("states", "ungated"),
        backends={
            "reference": Backend(module="kernels.s6.reference", exact=True),
            "numba": Backend(module="kernels.s6.cpu", devices=("cpu",), automatic=True),
            "triton": Backend(
                module="kernels.s6.triton", devices=("cuda",), automatic=True, largest_state=64
            ),
            # The limit of its csrc/selective_scan; its sums over channels are atomic.
            "mamba_ssm": Backend(
                module="kernels.s6.mamba_cuda",
                devices=("cuda",),
                largest_state=256,
                deterministic=False,
            ),
        },
        flops=count,
        plain=plain,
        cases="kernels.s6.cases",
    )
)


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, *,
    z: Tensor | None = None, delta_bias: Tensor | None = None, delta_softplus: bool = False,
    backend: str = "auto",
) -> Tensor:  # fmt: skip
    """Scan one sequence of tokens in its order (S6), then add the skip and apply the gate.

    Shapes: u, delta, z and the result (B, L, D); A (D, N), the negative matrix itself;
        B, C (B, L, N); D, delta_bias (D,).
    Units: the result has the dtype of u; the state is float32, or float64 on the reference.
    Raises: KernelError for shapes that do not fit or a backend that cannot run the call.
    Source: `kernels.s6.reference`, which is the specification.
    """
    if u.dim() != 3 or delta.dim() != 3 or A.dim() != 2 or B.dim() != 3 or C.dim() != 3:
        shapes = ", ".join(
            f"{name} {tuple(tensor.shape)}"
            for name, tensor in {"u": u, "delta": delta, "A": A, "B": B, "C": C}.items()
        )
        raise KernelError(f"{shapes}; expected u, delta (B, L, D), A (D, N), B, C (B, L, N)")
    return cross_scan(
        u,
        delta.unsqueeze(1),
        A.unsqueeze(0),
        B.unsqueeze(1),
        C.unsqueeze(1),
        None if D is None else D.unsqueeze(0),
        orders=None,
        z=z,
        delta_bias=None if delta_bias is None else delta_bias.unsqueeze(0),
        delta_softplus=delta_softplus,
        backend=backend,
    )


def cross_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, *,
    orders: Tensor | None, z: Tensor | None = None, delta_bias: Tensor | None = None,
    delta_softplus: bool = False, merge: str = "sum", backend: str = "auto",
) -> Tensor:  # fmt: skip
    """Scan an image along K routes and merge them, reading tokens through an order table.

    Shapes: x (B, L, D) shared by the routes, or (B, K, L, D), one input a route;
        delta (B, K, L, D) and B, C (B, K, L, N), all in raster order of tokens;
        A (K, D, N), the negative matrix itself; D, delta_bias (K, D); z (B, L, D);
        orders (K, M), or (B, K, M) where each image has its own: orders[k, t] is the raster
        token that route k visits at step t, M <= L of them, each once; a route adds nothing to a
        token where it does not come. None is raster order for every route.
        The result is (B, L, D) for merge 'sum' and 'mean', (B, K, L, D) for 'none', and
        gated by silu(z) per token.
    Units: the result has the dtype of x; the state is float32, or float64 on the reference.
    Raises: KernelError for shapes that do not fit, a backend that cannot run the call, and,
        on the CPU backends, for a row of orders that visits a token twice (elsewhere it would
        cost a call its asynchrony: `check_orders`, or SCANNAS_CHECK_ORDERS=1).
    Source: `kernels.s6.reference`, which is the specification.
    """
    call = ScanCall(x, delta, A, B, C, D, z, delta_bias, orders, delta_softplus, merge)
    return run(OPERATOR, call, backend)
