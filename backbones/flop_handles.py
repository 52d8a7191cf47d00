"""fvcore's count of a built model, with handles for the operators of `kernels`."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from backbones.errors import ConfigError
from backbones.image_size import ImageSize, sides
from backbones.tally import CONVENTIONS
from kernels import operators

with warnings.catch_warnings():
    # Its losses are scripted when it is imported, which torch would rather they were not.
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import get_shape

_NOT_MULTIPLY_ADDS = (
    "aten::batch_norm",
    "aten::layer_norm",
    "aten::adaptive_avg_pool2d",
    "aten::upsample_nearest2d",
)


def _handle(operator: Any, convention: str) -> Callable[[list[Any], list[Any]], int]:
    """Return the fvcore handle that counts an operator of `kernels` in a convention."""

    def count(inputs: list[Any], outputs: list[Any]) -> int:
        shapes = {name: get_shape(value) for name, value in zip(operator.call._fields, inputs)}
        return int(operator.flops(shapes, convention))

    return count


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Count the two products of softmax attention, which fvcore leaves out."""
    return 2 * math.prod(get_shape(inputs[0])) * get_shape(inputs[1])[-2]


def _count_nothing(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


def count_flops(model: nn.Module, image_size: ImageSize = 224, convention: str = "fvcore") -> int:
    """Return fvcore's count of a model on one image, in evaluation.

    Units: as `backbones.cost`, which it equals. The model keeps its mode.
    Raises: ConfigError for an unknown convention.
    """
    if convention not in CONVENTIONS:
        raise ConfigError(
            f"FLOP convention {convention!r} is unknown; use {' or '.join(CONVENTIONS)}"
        )
    size = sides(image_size)
    weight = next(model.parameters())
    channels = getattr(model, "in_chans", 3)  # of some of timm
    image = torch.zeros(1, channels, *size, device=weight.device, dtype=weight.dtype)
    training = model.training
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    try:
        model.eval()
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's notes on constants
            analysis = FlopCountAnalysis(model, image)
            analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
            for operator in operators():
                analysis.set_op_handle(operator.graph_name, _handle(operator, convention))
            if convention == "macs":
                for name in _NOT_MULTIPLY_ADDS:
                    analysis.set_op_handle(name, _count_nothing)
            return int(analysis.total())
    finally:
        logger.setLevel(level)
        model.train(training)
