"""Every preset as a timm model: `import backbones.timm_entry` registers `scannas_<preset>`."""

from __future__ import annotations

import sys
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from backbones.catalog import list_presets, load_config, override
from backbones.image_size import sides
from backbones.official import family_of

PREFIX = "scannas_"


def _pretrained_cfg(preset: str) -> dict[str, Any]:
    config = load_config(preset)
    return {
        "num_classes": config.num_classes,
        "input_size": (config.in_chans, *sides(config.image_size)),
        "interpolation": "bicubic",
        "crop_pct": family_of(config).crop_pct,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": config.stem.first_conv,
        "classifier": "head.fc",
    }


def _build(config: Any = None, **kwargs: Any) -> Any:
    from backbones.network import Backbone

    drop_rate = kwargs.pop("drop_rate", 0.0)
    size = kwargs.pop("img_size", None)
    if size is not None:
        kwargs["image_size"] = size
    model = Backbone(override(config, **kwargs), drop_rate=drop_rate)
    return model


def _register(preset: str) -> None:
    def entry(pretrained: bool = False, **kwargs: Any) -> Any:
        config = load_config(preset)
        hierarchical = len(config.stages) > 1
        features = {
            "out_indices": tuple(range(len(config.stages))) if hierarchical else 4,
            "feature_cls": "getter",
        }
        return build_model_with_cfg(
            _build, entry.__name__, pretrained, feature_cfg=features, config=config, **kwargs
        )

    entry.__name__ = entry.__qualname__ = PREFIX + preset
    entry.__doc__ = f"Build the preset {preset}."
    setattr(sys.modules[__name__], entry.__name__, register_model(entry))


default_cfgs = generate_default_cfgs({PREFIX + n: _pretrained_cfg(n) for n in list_presets()})
for _name in list_presets():
    _register(_name)
