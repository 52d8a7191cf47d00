"""Every preset as a timm model, and any design: `import backbones.timm_entry` registers them.

    timm.create_model("scannas_vmamba_tiny_s1l8", pretrained=True)
    timm.create_model("scannas", arch="best.yaml")

Weights may be ours or released ones, whether timm finds them by `pretrained=True`, by
`pretrained_cfg_overlay=dict(file=...)`, in a `local-dir:` or by `checkpoint_path=`. The last one
takes averaged weights where a file holds both; the others those that the published score is of.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import resample_abs_pos_embed
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._builder import _resolve_pretrained_source, resolve_pretrained_cfg
from timm.models._hub import download_cached_file

from backbones.catalog import list_presets, load_config, override
from backbones.checkpoints import YACS, as_ours, read_checkpoint
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.image_size import sides
from backbones.official import FAMILIES
from backbones.official.releases import URLS, origin_of
from backbones.yaml_files import Document, validate

ANY = "scannas"
PREFIX = f"{ANY}_"
torch.serialization.add_safe_globals([YACS])  # timm reads `checkpoint_path` itself


def pretrained_cfg(config: BackboneConfig) -> dict[str, Any]:
    """Return what timm is to know of a design: its input, its ends and how it is evaluated."""
    family = FAMILIES.get(config.family or "")
    return {
        "num_classes": config.num_classes,
        "input_size": (config.in_chans, *sides(config.image_size)),
        "interpolation": "bicubic",
        "crop_pct": family.crop_pct if family else 224 / 256,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": config.stem.first_conv,
        "classifier": "head.fc",
    }


def _released(preset: str) -> dict[str, Any]:
    origin = origin_of(preset)
    return {
        **pretrained_cfg(load_config(preset)),
        "url": URLS.get(preset),
        "license": origin.license,
        "origin_url": origin.code,
        "paper_ids": f"arXiv:{origin.paper}",
    }


def _build(config: BackboneConfig, **kwargs: Any) -> Any:
    from backbones.network import Backbone

    own = {
        k: kwargs.pop(k) for k in ("drop_rate", "drop_path_schedule", "stage_norms") if k in kwargs
    }
    size, pool = kwargs.pop("img_size", None), kwargs.pop("global_pool", None)
    if size is not None:
        kwargs["image_size"] = size
    model = Backbone(override(config, **kwargs), **own)
    if pool is not None and pool != model.global_pool:
        model.reset_classifier(model.num_classes, pool)
    model.register_load_state_dict_pre_hook(partial(_translate, config))
    return model


def _translate(
    config: BackboneConfig, model: Any, state: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Give released weights our keys, in place, when a state dict is loaded into the model."""
    if not prefix and config.family in FAMILIES and not _are_ours(state, model):
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        ours = as_ours(config, shapes, state)
        state.clear()
        state.update(ours)


def _are_ours(state: Mapping[str, Any], model: Any) -> bool:
    """Whether weights carry our keys: they have more of ours than not, adapted as timm does."""
    ours = set(model.state_dict())
    return 2 * len(ours & set(state)) > len(ours)


def _filter(config: BackboneConfig, content: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Return a file's weights by our keys, positions resized; timm adapts stem and classifier."""
    from backbones.network import Backbone

    state = dict(content)
    if config.family in FAMILIES and not _are_ours(state, model):
        with torch.device("meta"):
            shapes = {k: tuple(v.shape) for k, v in Backbone(config).state_dict().items()}
        state = as_ours(config, shapes, state)
    table = state.get("pos_embed")
    if table is not None and table.shape != model.pos_embed.shape:
        count = table.shape[1] - model.num_prefix_tokens
        patches = resample_abs_pos_embed(
            table[:, :count], list(model.reference_grid), num_prefix_tokens=0
        )
        state["pos_embed"] = torch.cat((patches, table[:, count:]), dim=1)
    return state


def _content(variant: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Read the weights that timm would, and choose between averaged and raw ones as published.

    Returns: what to put over the pretrained config.
    """
    overlay = dict(kwargs.get("pretrained_cfg_overlay") or {})
    cfg = resolve_pretrained_cfg(variant, kwargs.get("pretrained_cfg"), overlay).to_dict()
    source, place = _resolve_pretrained_source(cfg)
    if source == "url":
        place = download_cached_file(place, cache_dir=kwargs.get("cache_dir"))
    if source in ("url", "file"):
        overlay["state_dict"] = dict(read_checkpoint(place))
    elif not source:
        near = ", ".join(URLS)
        raise ConfigError(
            f"no released weights of {variant} can be fetched; pass "
            f"pretrained_cfg_overlay=dict(file=...), or take one of {near}"
        )
    return overlay


def _create(variant: str, config: BackboneConfig, pretrained: bool, **kwargs: Any) -> Any:
    if pretrained:
        kwargs["pretrained_cfg_overlay"] = _content(variant, kwargs)
    hierarchical = len(config.stages) > 1
    model = build_model_with_cfg(
        partial(_build, config),
        variant,
        pretrained,
        pretrained_filter_fn=partial(_filter, config),
        feature_cfg={
            "out_indices": tuple(range(len(config.stages))) if hierarchical else 4,
            "feature_cls": "getter",
        },
        **kwargs,
    )
    model.pretrained_cfg.pop("state_dict", None)
    return model


def scannas(
    pretrained: bool = False, arch: str | Path | Mapping[str, Any] | None = None, **kwargs: Any
) -> Any:
    """Build any design. arch: a preset, a YAML or exported file, or a config's content."""
    if arch is None:
        raise ConfigError(f"{ANY} needs a design; pass arch= a preset, a YAML file or a mapping")
    if isinstance(arch, Mapping):
        config = validate(BackboneConfig, Document(dict(arch), "arch"), ConfigError)
    else:
        config = load_config(arch)
    if not kwargs.get("pretrained_cfg"):
        kwargs["pretrained_cfg"] = pretrained_cfg(config)
    return _create(ANY, config, pretrained, **kwargs)


def _register(preset: str) -> None:
    def entry(pretrained: bool = False, **kwargs: Any) -> Any:
        return _create(PREFIX + preset, load_config(preset), pretrained, **kwargs)

    entry.__name__ = entry.__qualname__ = PREFIX + preset
    entry.__doc__ = f"Build the preset {preset}."
    setattr(sys.modules[__name__], entry.__name__, register_model(entry))


default_cfgs = generate_default_cfgs(
    {PREFIX + name: _released(name) for name in list_presets()}
    | {ANY: {"num_classes": 1000, "input_size": (3, 224, 224)}}
)
register_model(scannas)
for _name in list_presets():
    _register(_name)
