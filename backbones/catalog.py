"""Presets and configs by name, and models made from them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from kernels.errors import nearest

if TYPE_CHECKING:
    from backbones.network import Backbone

PRESETS = Path(__file__).parent / "presets"


def list_presets() -> list[str]:
    """Return the names of the published backbones, sorted."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


@cache
def _preset(name: str) -> BackboneConfig:
    config = BackboneConfig.load(PRESETS / f"{name}.yaml")
    return config.model_copy(update={"name": name})


def load_config(source: str | Path | BackboneConfig) -> BackboneConfig:
    """Return the config of a preset name, of a YAML file or of an exported file; without torch.

    Raises: ConfigError for a name that is neither, with the nearest preset, and for a bad file.
    """
    if isinstance(source, BackboneConfig):
        return source
    text = str(source)
    if isinstance(source, str) and (PRESETS / f"{text}.yaml").is_file() and "/" not in text:
        return _preset(text)
    if Path(text).is_file():
        return BackboneConfig.load(text)
    hint = nearest(text, list_presets(), "list_presets() names them all")
    raise ConfigError(f"{text!r} is neither a preset nor a file; {hint}")


def create(source: Any, *, drop_rate: float = 0.0, **overrides: Any) -> Backbone:
    """Build a model.

    source: preset name, path to a YAML file, or a config; also `timm:NAME`, a network of timm.
    overrides: num_classes, in_chans, drop_path_rate, image_size replace the config's.
    drop_rate: dropout before the classifier.
    Shapes: the model takes (B, in_chans, H, W) and returns (B, num_classes).
    Raises: ConfigError for an unknown source or override.
    """
    from backbones.outside import PREFIX, TimmConfig

    if isinstance(source, str) and source.startswith(PREFIX):
        source = TimmConfig.load(source)
    if isinstance(source, TimmConfig):
        return source.build(**_checked(overrides), drop_rate=drop_rate)  # type: ignore[no-any-return]
    from backbones.network import Backbone

    return Backbone(override(load_config(source), **overrides), drop_rate=drop_rate)


OVERRIDES = ("num_classes", "in_chans", "drop_path_rate", "image_size")


def override(config: BackboneConfig, **values: Any) -> BackboneConfig:
    """Return a config with some of its training-time fields replaced; None leaves one as it is.

    Raises: ConfigError for a field that is none of `OVERRIDES`, or a value that it refuses.
    """
    if not (values := _checked(values)):
        return config
    from backbones.yaml_files import Document, validate

    document = Document({**config.to_dict(), **values}, "overrides")
    return validate(BackboneConfig, document, ConfigError)


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """Return the overrides that are stated; ConfigError for one that is unknown."""
    unknown = sorted(set(values) - set(OVERRIDES))
    if unknown:
        raise ConfigError(f"unknown override {unknown[0]!r}; use {', '.join(OVERRIDES)}")
    return {key: value for key, value in values.items() if value is not None}
