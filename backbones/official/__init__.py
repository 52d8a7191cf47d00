"""How each family's released weights name what our networks hold; no torch here.

A family is what a preset declares: a function from its config to `Names`, one source for every
key of our state dict, and what its authors evaluated with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.official.mambaout import mambaout
from backbones.official.names import Names
from backbones.official.plain import local_vim, plainmamba, vim
from backbones.official.vit import vit
from backbones.official.vmamba import vmamba, vmamba_dense


@dataclass(frozen=True)
class Family:
    """Released weights of one code base.

    averaged: whether the published score is that of the averaged weights, where a file holds
    both. crop_pct: side of the evaluated crop / side that images are resized to. dense: the names
    in released detectors and segmenters, after `backbone.`, where they hold the same backbone.
    """

    names: Callable[[BackboneConfig], Names]
    averaged: bool = True
    crop_pct: float = 224 / 256
    dense: Callable[[BackboneConfig], Names] | None = None


FAMILIES: dict[str, Family] = {
    "vmamba": Family(vmamba, dense=vmamba_dense),
    # Vim's main.py keeps the epoch at which the raw weights score best.
    "vim": Family(vim, averaged=False),
    "local_vim": Family(local_vim),
    "plainmamba": Family(plainmamba),
    "mambaout": Family(mambaout, crop_pct=1.0),
    "vit": Family(vit),
}


def family_of(config: BackboneConfig) -> Family:
    """Return the family that a config declares.

    Raises: ConfigError for a config that declares none, or one that is not known.
    """
    if config.family in FAMILIES:
        return FAMILIES[config.family]
    found = "declares no family" if config.family is None else f"declares family {config.family!r}"
    raise ConfigError(
        f"{config.name or 'this config'!r} {found}, so it has no official checkpoints; families "
        f"are {', '.join(FAMILIES)}"
    )


def official_names(config: BackboneConfig) -> Names:
    """Return the names of the released weights of a config's family.

    Raises: ConfigError as `family_of`, and for a config with parts that the family has not.
    """
    return family_of(config).names(config)
