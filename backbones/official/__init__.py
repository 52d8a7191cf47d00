"""How each family's released weights name what our networks hold; no torch here.

A family is a function from a config to `Names`: one source for every key of our state dict.
"""

from __future__ import annotations

from collections.abc import Callable

from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.official.mambaout import mambaout
from backbones.official.names import Names
from backbones.official.plain import local_vim, plainmamba, vim
from backbones.official.vmamba import vmamba

FAMILIES: dict[str, Callable[[BackboneConfig], Names]] = {
    "vmamba": vmamba,
    "quadmamba": vmamba,
    "local_vssm": vmamba,
    "efficient_vmamba": vmamba,
    "vim": vim,
    "local_vim": local_vim,
    "plainmamba": plainmamba,
    "mambaout": mambaout,
}


def official_names(config: BackboneConfig) -> Names:
    """Return the names of the family that a preset's config belongs to.

    Raises: ConfigError for a config that is not made from a preset.
    """
    name = config.name or ""
    matching = [family for family in FAMILIES if name.startswith(family + "_")]
    if not matching:
        raise ConfigError(
            f"{name or 'this config'!r} has no official checkpoints; name a preset of "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[max(matching, key=len)](config)
