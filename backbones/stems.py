"""How an image becomes a map, and how a map is halved: configs, geometry, cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, PositiveInt, SerializeAsAny, field_validator

from backbones.language import Grid, Model, Norm, NormConfig, plain
from backbones.registry import DOWNSAMPLES, STEMS, imported
from backbones.tally import Tally, convolved


class Resampler(Model, ABC):
    """A part that changes the size of a map. module: what `build` imports."""

    kind: str
    module: ClassVar[str]

    @abstractmethod
    def grid(self, size: Grid) -> Grid:
        """Return the map made of an image or map of this size."""

    @abstractmethod
    def cost(self, tally: Tally, inputs: int, width: int, size: Grid) -> None:
        """Count the module on an image or map of this size."""

    def canonical(self) -> dict[str, Any]:
        """Return plain data that is equal for equal functions."""
        return plain(self)  # type: ignore[no-any-return]

    def build(self, inputs: int, width: int) -> Any:
        """Return the module."""
        return imported(self.module)(self, inputs, width)


class StemConfig(Resampler):
    """What turns an image into the first map.

    first_conv: its first convolution, for timm. conv_init: how its convolutions start where the
    network does not say; see `BackboneConfig.conv_init`.
    """

    least_width: ClassVar[int] = 1
    first_conv: ClassVar[str]

    @property
    def conv_init(self) -> str:
        """The rule by which convolutions start."""
        return "torch"

    @property
    @abstractmethod
    def step(self) -> int:
        """Pixels from one token to the next."""

    @abstractmethod
    def with_step(self, step: int) -> StemConfig:
        """Return a smaller stem of about so many pixels a token, for training on small images."""


class OverlapStem(StemConfig):
    """Two 3x3 convolutions with norms and a GELU between (VMamba v2, MambaOut).

    stride: total; 4 as published (2, then 2); 2 is (2, then 1), 1 is (1, then 1).
    """

    module: ClassVar[str] = "backbones.stem_modules:Overlap"
    least_width: ClassVar[int] = 2
    first_conv: ClassVar[str] = "stem.conv1"

    kind: Literal["overlap"] = "overlap"
    stride: Literal[1, 2, 4] = 4
    norm: Norm = NormConfig()

    @property
    def step(self) -> int:
        return self.stride

    @property
    def strides(self) -> tuple[int, int]:
        """Strides of the two convolutions."""
        return {4: (2, 2), 2: (2, 1), 1: (1, 1)}[self.stride]

    def with_step(self, step: int) -> OverlapStem:
        nearest = max(s for s in (1, 2, 4) if s <= max(1, step))
        return self.model_copy(update={"stride": nearest})

    def grid(self, size: Grid) -> Grid:
        for stride in self.strides:
            size = convolved(size, 3, stride, 1)
        return size

    def cost(self, tally: Tally, inputs: int, width: int, size: Grid) -> None:
        for outputs, stride in zip((width // 2, width), self.strides):
            size = convolved(size, 3, stride, 1)
            tally.conv("stem", 9 * inputs * outputs, outputs, size[0] * size[1])
            tally.norm("stem", self.norm, outputs, size[0] * size[1])
            inputs = outputs


class PatchifyStem(StemConfig):
    """One patch x patch convolution, without padding.

    stride: null means patch (Vim's fine-tuned models overlap patches with stride 8).
    norm: null for none (Vim), layernorm for VMamba v0.
    """

    module: ClassVar[str] = "backbones.stem_modules:Patchify"
    first_conv: ClassVar[str] = "stem.conv"

    kind: Literal["patchify"] = "patchify"
    patch: PositiveInt = 4
    stride: PositiveInt | None = None
    norm: Norm | None = NormConfig()

    @property
    def step(self) -> int:
        return self.stride or self.patch

    @property
    def conv_init(self) -> str:
        """The rule by which the convolution starts: Vim's where no norm follows."""
        return "lecun" if self.norm is None else "torch"

    def with_step(self, step: int) -> PatchifyStem:
        """Keep the overlap of patches in proportion."""
        patch = max(1, round(step * self.patch / self.step))
        stride = None if patch == step else step
        return self.model_copy(update={"patch": patch, "stride": stride})

    def canonical(self) -> dict[str, Any]:
        return super().canonical() | {"stride": self.step}

    def grid(self, size: Grid) -> Grid:
        return convolved(size, self.patch, self.step, 0)

    def cost(self, tally: Tally, inputs: int, width: int, size: Grid) -> None:
        height, breadth = self.grid(size)
        tally.conv("stem", self.patch**2 * inputs * width, width, height * breadth)
        tally.norm("stem", self.norm, width, height * breadth)


class ConvStem(StemConfig):
    """7x7 stride 2, `convs` 3x3 convolutions (BN, ReLU), then a (patch/2) patch projection.

    Source: PlainMamba, arXiv 2403.17695, section 3.
    """

    module: ClassVar[str] = "backbones.stem_modules:Convolutional"
    first_conv: ClassVar[str] = "stem.convs.0"
    small_hidden: ClassVar[int] = 16  # on small images: its cost hardly shrinks with them

    kind: Literal["conv"] = "conv"
    patch: PositiveInt = 16
    convs: PositiveInt = 1
    hidden: PositiveInt = 64

    @field_validator("patch")
    @classmethod
    def _even(cls, patch: int) -> int:
        if patch % 2:
            raise ValueError(f"patch {patch} must be even: the first convolution takes stride 2")
        return patch

    @property
    def step(self) -> int:
        return self.patch

    def with_step(self, step: int) -> ConvStem:
        patch = max(2, step - step % 2)
        return self.model_copy(update={"patch": patch, "hidden": self.small_hidden})

    def grid(self, size: Grid) -> Grid:
        return convolved(convolved(size, 7, 2, 3), self.patch // 2, self.patch // 2, 0)

    def cost(self, tally: Tally, inputs: int, width: int, size: Grid) -> None:
        height, breadth = convolved(size, 7, 2, 3)
        positions, hidden = height * breadth, self.hidden
        for weight in (49 * inputs * hidden, *[9 * hidden * hidden] * self.convs):
            tally.conv("stem", weight, 0, positions)
            tally.batch_norm("stem", hidden, positions)
        height, breadth = self.grid(size)
        tally.conv("stem", (self.patch // 2) ** 2 * hidden * width, width, height * breadth)


Stem = Annotated[SerializeAsAny[StemConfig], BeforeValidator(STEMS.read), STEMS]


# --- between stages ----------------------------------------------------------------------------


class Conv3x3(Resampler):
    """Convolution of stride 2 with norm (VMamba v3, MambaOut)."""

    module: ClassVar[str] = "backbones.stem_modules:Conv"
    kernel: ClassVar[int] = 3
    padding: ClassVar[int] = 1

    kind: Literal["conv3x3"] = "conv3x3"
    norm: Norm = NormConfig()

    def grid(self, size: Grid) -> Grid:
        return convolved(size, self.kernel, 2, self.padding)

    def cost(self, tally: Tally, inputs: int, width: int, size: Grid) -> None:
        height, breadth = self.grid(size)
        tally.conv("downsample", self.kernel**2 * inputs * width, width, height * breadth)
        tally.norm("downsample", self.norm, width, height * breadth)


class Conv2x2(Conv3x3):
    """The same on 2 x 2 squares, without padding: an odd side loses its last row (VMamba v2)."""

    kernel: ClassVar[int] = 2
    padding: ClassVar[int] = 0

    kind: Literal["conv2x2"] = "conv2x2"  # type: ignore[assignment]


class PatchMerging(Resampler):
    """2x2 concatenation, norm, linear without bias (VMamba v0, Swin)."""

    module: ClassVar[str] = "backbones.stem_modules:Merging"

    kind: Literal["patch_merging"] = "patch_merging"
    norm: Norm = NormConfig()

    def grid(self, size: Grid) -> Grid:
        """Return the map made of a map of this size: odd sides are padded."""
        return -(-size[0] // 2), -(-size[1] // 2)

    def cost(self, tally: Tally, inputs: int, width: int, size: Grid) -> None:
        height, breadth = self.grid(size)
        tally.norm("downsample", self.norm, 4 * inputs, height * breadth)
        tally.linear("downsample", 4 * inputs, width, height * breadth, bias=False)


Downsample = Annotated[SerializeAsAny[Resampler], BeforeValidator(DOWNSAMPLES.read), DOWNSAMPLES]
