"""Networks of timm beside ours: by name, as they are, trained and counted but never searched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import Field

from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.image_size import ImageSize, sides
from backbones.language import Model
from backbones.tally import Cost
from kernels.errors import nearest

PREFIX = "timm:"


class TimmConfig(Model):
    """A network of timm.

    name: as timm has it, without weights: convnext_atto, deit_tiny_patch16_224.
    """

    name: str = Field(alias="timm")

    @classmethod
    def load(cls, text: str) -> TimmConfig:
        """Return the network that `timm:NAME` names.

        Raises: ConfigError for a name without the prefix, or one that timm does not know.
        """
        import timm

        name = text.removeprefix(PREFIX)
        if name == text:
            raise ConfigError(f"{text!r} must begin with {PREFIX!r}, e.g. timm:convnext_atto")
        if not timm.is_model(name):
            known = timm.list_models()
            hint = nearest(name, known, "timm.list_models() names them all")
            raise ConfigError(f"{text!r} is no model of timm; {hint}")
        return cls(timm=name)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the name: what it stands for is timm's."""
        return hashlib.sha256(f"{PREFIX}{self.name}".encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data from which any process makes the same network."""
        return {"timm": self.name}

    def build(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        image_size: ImageSize = 224,
        **rates: float,
    ) -> Any:
        """Return the network, freshly initialized, for images of a size.

        rates: drop_rate, drop_path_rate.

        Raises: ConfigError where its patches or windows do not divide the images.
        """
        import timm

        model = timm.create_model(self.name, num_classes=num_classes, in_chans=in_chans, **rates)
        if hasattr(model, "set_input_size"):
            try:
                model.set_input_size(img_size=sides(image_size))
            except (AssertionError, ValueError) as error:
                raise ConfigError(
                    f"{PREFIX}{self.name} does not take images of {image_size} pixels: {error}"
                ) from None
        return model

    def cost(self, image_size: ImageSize = 224, convention: str = "fvcore") -> Cost:
        """Count parameters and operations of one image: built, and traced by fvcore."""
        return _cost(self.name, sides(image_size), convention)


@lru_cache(64)
def _cost(name: str, size: tuple[int, int], convention: str) -> Cost:
    from backbones.flop_handles import count_flops

    model = TimmConfig(timm=name).build(image_size=size)
    params = sum(p.numel() for p in model.parameters())
    flops = count_flops(model, size, convention)
    whole = {name: (params, flops)}
    return Cost(params, flops, whole, whole, convention, size)


def read_design(data: Mapping[str, Any]) -> BackboneConfig | TimmConfig:
    """Return the design that plain data, as a study keeps it, describes."""
    kind = TimmConfig if "timm" in data else BackboneConfig
    return kind.model_validate(dict(data))
