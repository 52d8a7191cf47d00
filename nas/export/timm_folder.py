"""A design as a folder that timm loads: `timm.create_model("local-dir:DIR", pretrained=True)`.

Beside the weights lie the design itself and a model card: nothing of a search is needed to use
them, only `import backbones.timm_entry`.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backbones import list_presets
from backbones.official.releases import origin_of
from nas.errors import StudyError
from nas.export.ship import Cargo

LICENSE = "apache-2.0"
"""Of this project, and so of designs that a search found and of initial weights."""


def write_timm(folder: Path, cargo: Cargo) -> Path:
    """Write config.json, model.safetensors and README.md, once timm has loaded them.

    Raises: StudyError for a place that cannot be written, or a folder whose model gives other
        logits.
    """
    import timm
    import torch
    from safetensors import SafetensorError
    from timm.models._hub import generate_readme, save_for_hf

    from backbones import timm_entry

    arch = cargo.config.to_dict()
    model = timm.create_model(timm_entry.ANY, arch=arch).eval()
    model.load_state_dict(cargo.model.state_dict())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".timm-", dir=folder.parent) as made:
            save_for_hf(
                model,
                made,
                model_config=_labels(cargo),
                model_args={"arch": arch},
                safe_serialization=True,
            )
            card = _card(cargo)
            (Path(made) / "README.md").write_text(generate_readme(card, cargo.name))
            again = timm.create_model(f"local-dir:{made}", pretrained=True).eval()
            image = torch.randn(1, cargo.config.in_chans, *cargo.size)
            with torch.no_grad():
                if not torch.equal(again(image), cargo.model(image)):
                    raise StudyError(
                        f"timm loads another model from {str(folder)!r} than was saved; nothing "
                        "was written, report this with the config"
                    )
            folder.mkdir(exist_ok=True)
            for path in Path(made).iterdir():
                path.replace(folder / path.name)
    except (OSError, SafetensorError) as exc:
        raise StudyError(f"cannot write {str(folder)!r}: {exc}; choose another --timm") from None
    return folder


def _labels(cargo: Cargo) -> dict[str, Any]:
    """Return the names of the classes, where `train` has written them beside the weights."""
    if "classes" not in cargo.stated:
        return {}
    return {"pretrained_cfg": {"label_names": json.loads(cargo.stated["classes"])}}


def _card(cargo: Cargo) -> dict[str, Any]:
    """Return a model card as `timm.models._hub.generate_readme` takes it."""
    from backbones import cost

    counted = cost(cargo.config, image_size=cargo.size)
    source = cargo.facts.get("source") or {}
    details: dict[str, Any] = {
        "Model type": "image classification, feature backbone",
        "Fingerprint": cargo.config.fingerprint(),
        "Cost": f"{counted.params / 1e6:.2f} M parameters, {counted.flops / 1e9:.3f} GFLOPs "
        f"({counted.convention}) at {cargo.size[0]}x{cargo.size[1]} pixels",
        "Weights": cargo.weights,
        "License": _license(cargo),
    }
    if source:
        details["Found by"] = (
            f"study {source.get('study')}, trial {source.get('trial')} "
            f"({source.get('label') or source.get('role')}), in space {source.get('space')}"
        )
        details["Proxy score"] = _score(source)
        details["Proxy recipe"] = _plain(cargo.facts.get("recipe") or {})
        details["Choices"] = _plain(source.get("choices") or {})
    for title, key in (("Confirmed", "verdict"), ("Fidelity of the proxy", "fidelity")):
        if source.get(key):
            details[title] = list(source[key])
    return {
        "tags": ["image-classification", "timm", "scannas"],
        "license": _license(cargo),
        "description": "A vision backbone over scan designs, by ScanNAS.",
        "details": details,
        "usage": USAGE,
    }


USAGE = """```python
import backbones.timm_entry  # of ScanNAS; nothing of its search is needed
import timm

model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True)
maps = timm.create_model("local-dir:THIS_FOLDER", pretrained=True, features_only=True)
```"""


def _license(cargo: Cargo) -> str:
    """Return the license of the weights: of a published design's, that of its code base."""
    if cargo.trained and cargo.config.family is not None and cargo.name in list_presets():
        return origin_of(cargo.name).license
    return LICENSE


def _score(source: dict[str, Any]) -> str:
    confirmed = "see below" if source.get("verdict") else "one noisy run, not confirmed"
    score = source.get("score")
    return "none" if score is None else f"{score:.4f} of a scaled-down network ({confirmed})"


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return what of a mapping fits into a line each."""
    return {key: value for key, value in data.items() if value not in (None, {}, [])}
