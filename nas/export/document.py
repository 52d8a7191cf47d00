"""An export: one YAML file from which anybody rebuilds the identical model.

The file holds the architecture in the backbone language, its fingerprint and cost, and where it
came from: study, trial, score, recipe, environment. Nothing is written that was not checked: a
fresh interpreter rebuilds the model from the file and must arrive at the same fingerprint,
parameters and FLOPs and, with weights, at the same logits.
"""

from __future__ import annotations

import filecmp
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from backbones import cost
from backbones.config import BackboneConfig
from backbones.image_size import ImageSize
from nas.errors import StudyError
from nas.export.rebuild import verify_export
from nas.export.weights import write_initial_weights

SCHEMA = 1


def write_export(
    path: Path,
    config: BackboneConfig,
    *,
    image_size: ImageSize,
    convention: str,
    source: dict[str, Any],
    recipe: dict[str, Any],
    environment: dict[str, Any],
    weights_seed: int | None = None,
) -> Path:
    """Write `config` and its provenance to `path`, once it is proven to rebuild from there.

    weights_seed: with a seed, the model's initial weights under it are written beside the file
    as safetensors. (A trial trains a scaled-down proxy; its weights do not fit this model.)

    Raises: StudyError when the file cannot be written, when the rebuilt model differs, or when
        other weights lie where these would go. What was there before is then as it was.
    """
    counted = cost(config, image_size=image_size, convention=convention)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "fingerprint": config.fingerprint(),
        "cost": {
            "params": counted.params,
            "flops": counted.flops,
            "convention": convention,
            "image_size": image_size if isinstance(image_size, int) else list(image_size),
        },
        "source": source,
        "config": config.to_dict(),
        "recipe": recipe,
        "environment": environment,
    }
    weights = path.with_suffix(".safetensors")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made and proven in a folder beside its place, under the names it will have there.
        with TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            made = Path(folder)
            if weights_seed is not None:
                digest = write_initial_weights(
                    made / weights.name, config, weights_seed, image_size
                )
                _check_replaceable(weights, made / weights.name)
                document["weights"] = {
                    "file": weights.name,
                    "seed": weights_seed,
                    "logits_sha256": digest,
                }
            (made / path.name).write_text(
                yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100)
            )
            verify_export(made / path.name)
            if weights_seed is not None:
                (made / weights.name).replace(weights)
            (made / path.name).replace(path)
    except OSError as exc:
        raise StudyError(f"cannot write {str(path)!r}: {exc}; choose another --out") from None
    return path


def _check_replaceable(present: Path, made: Path) -> None:
    if present.exists() and not filecmp.cmp(present, made, shallow=False):
        raise StudyError(
            f"{str(present)!r} exists and holds other weights; choose another --out, or move it"
        )
