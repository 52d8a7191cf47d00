"""Vision backbones composed from scan designs.

    import backbones
    model = backbones.create("vmamba_tiny_s1l8", num_classes=1000)
    backbones.cost("vmamba_tiny_s1l8", image_size=224).flops

`import backbones.timm_entry` makes every preset known to timm as `scannas_<preset>`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.common.lazy import public

if TYPE_CHECKING:
    from backbones.catalog import create, list_presets, load_config
    from backbones.checkpoints import (
        convert_checkpoint,
        load_official,
        load_weights,
        read_checkpoint,
    )
    from backbones.config import BackboneConfig
    from backbones.counting import cost

_HOME = {
    "create": "backbones.catalog",
    "list_presets": "backbones.catalog",
    "load_config": "backbones.catalog",
    "cost": "backbones.counting",
    "BackboneConfig": "backbones.config",
    "load_official": "backbones.checkpoints",
    "load_weights": "backbones.checkpoints",
    "read_checkpoint": "backbones.checkpoints",
    "convert_checkpoint": "backbones.checkpoints",
}

__all__ = [
    "BackboneConfig",
    "convert_checkpoint",
    "cost",
    "create",
    "list_presets",
    "load_config",
    "load_official",
    "load_weights",
    "read_checkpoint",
]

__getattr__ = public(__name__, _HOME)
