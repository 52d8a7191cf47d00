"""A network as an ONNX file: one file for one input size, any number of images at a time.

Scans become ONNX `Scan` loops, so a file does not grow with the number of tokens. No file is
left that onnxruntime does not run to PyTorch's logits.
"""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backbones.config import BackboneConfig, resolve_blocks
from nas.errors import StudyError

TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit where that is above 1."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")
IMAGES = 3
"""Images that a file is checked with; it is traced with another number."""


def write_onnx(path: Path, model: Any, size: tuple[int, int]) -> float:
    """Write a network in evaluation at one input size (H, W), once the file is proven.

    The file's input is `image` (N, in_chans, H, W), its output `logits` (N, num_classes), N free.
    Returns: the largest difference of a logit between onnxruntime and PyTorch.
    Raises: StudyError for a network whose scan order depends on the image, for packages that are
        missing, a file that cannot be written or logits that differ.
    """
    check_exportable(model.config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".onnx-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            _translate(model, size).save(str(made))
            error = _difference(made, model, size)
            made.replace(path)
    except OSError as exc:
        raise StudyError(f"cannot write {str(path)!r}: {exc}; choose another --onnx") from None
    return error


def check_exportable(config: BackboneConfig) -> None:
    """Raise StudyError unless a design can become a fixed graph on this machine."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise StudyError(
            f"--onnx needs {', '.join(missing)}; install them with: pip install 'scannas[onnx]'"
        )
    for i, blocks in enumerate(resolve_blocks(config)):
        for placed in blocks:
            order = getattr(placed.block.mixer, "order", None)
            if order is not None and order.learned:
                raise StudyError(
                    f"stages.{i} scans along a {order.kind}, whose order depends on the image, "
                    "so it has no fixed graph; --onnx takes designs with fixed orders"
                )


def _translate(model: Any, size: tuple[int, int]) -> Any:
    """Return torch's ONNX program of a network."""
    import torch

    from kernels.common.dispatch import decompositions

    def attention(*args: Any, **kwargs: Any) -> Any:
        return torch.ops.aten._scaled_dot_product_attention_math(*args, **kwargs)[0]

    plain = {**decompositions(), torch.ops.aten.scaled_dot_product_attention.default: attention}
    parameter = next(model.parameters())
    image = torch.zeros(2, model.in_chans, *size, device=parameter.device)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's exporter, on its own code
            program = torch.export.export(
                model, (image,), dynamic_shapes=({0: torch.export.Dim("images")},)
            )
            return torch.onnx.export(
                program.run_decompositions(plain),
                dynamo=True,
                verbose=False,
                input_names=["image"],
                output_names=["logits"],
            )
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def _difference(path: Path, model: Any, size: tuple[int, int]) -> float:
    """Return how far the file's logits are from PyTorch's; StudyError where that is too far."""
    import onnxruntime
    import torch

    noise = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, model.in_chans, *size, generator=noise)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [found] = session.run(["logits"], {"image": images.numpy()})
    with torch.no_grad():
        expected = model(images)
    error = (torch.from_numpy(found) - expected).abs().max()
    if not error <= TOLERANCE * expected.abs().max().clamp(min=1):
        raise StudyError(
            f"onnxruntime's logits are {float(error):.1e} from PyTorch's at "
            f"{size[0]}x{size[1]}; nothing was written, report this with the config"
        )
    return float(error)
