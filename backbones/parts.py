"""The parts of a network around its mixers: blocks and the head."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from backbones.language import Grid, Model, Norm, NormConfig, plain
from backbones.mixers.base import Mixer
from backbones.mixers.local_conv import LocalConvConfig
from backbones.mixers.ssm import SSMConfig
from backbones.tally import Tally


class FFNConfig(Model):
    """Linear, GELU, linear, with biases; hidden = int(width * ratio).

    ratio: hidden width / width.
    """

    ratio: Annotated[float, Field(gt=0)] = 4.0

    def hidden(self, width: int) -> int:
        """Return the inner width."""
        return int(self.ratio * width)


def _first_spelling_too(schema: dict[str, Any]) -> None:
    schema["properties"]["local_branch"] = {
        "type": "boolean",
        "deprecated": True,
        "description": "First spelling of `beside: local_conv`.",
    }


class BlockConfig(Model):
    """One residual block: x + mixer(norm(x)), then x + ffn(norm(x)) if there is one.

    mixer: what mixes tokens. ffn: what mixes channels after it, null for none.
    norm: of both branches; null for mixers that normalize inside (inverted_residual).
    beside: a second mixer of the same tokens; both outputs pass one shared channel attention and
        are summed (EfficientVMamba's `local_conv`).
    norm_at: each branch's norm acts on its "input", or on its "output" (Swin V2, arXiv 2111.09883;
        VMamba's post_norm).
    layer_scale: where the factors of each branch's channels start, null for none (CaiT, arXiv
        2103.17239). Where they start is no part of the fingerprint.
    conv_position: adds a depthwise 3 x 3 of x to x before the block (CPVT, arXiv 2102.10882).
    post_conv: replaces x by GELU(BN(depthwise 3x3(x))) after the block (PlainMamba-L1, block 0).
    """

    model_config = ConfigDict(json_schema_extra=_first_spelling_too)

    norm: Norm | None = NormConfig()
    mixer: Mixer = SSMConfig()
    ffn: FFNConfig | None = None
    beside: Mixer | None = None
    norm_at: Literal["input", "output"] = "input"
    layer_scale: Annotated[float, Field(gt=0)] | None = None
    conv_position: bool = False
    post_conv: bool = False

    @model_validator(mode="before")
    @classmethod
    def _first_spelling(cls, data: Any) -> Any:
        """Read `local_branch: true`, once the only mixer that could stand beside another."""
        if not isinstance(data, dict) or "local_branch" not in data:
            return data
        kept = {key: value for key, value in data.items() if key != "local_branch"}
        meant = {True: "local_conv", False: None}.get(data["local_branch"], "?")
        if meant == "?" or kept.setdefault("beside", meant) not in (meant, {"kind": meant}):
            raise ValueError("local_branch is written `beside: local_conv`, and once")
        return kept

    def check(self, width: int, class_token: bool) -> None:
        """Raise ValueError where the block cannot work at a width, or beside a class token."""
        on_map = self.post_conv or self.conv_position or self.beside
        for mixer in filter(None, (self.mixer, self.beside)):
            mixer.check_width(width)
            if class_token and (on_map or not mixer.takes_class_token):
                raise ValueError(
                    f"a class token is no part of the map, and a block of mixer {mixer.kind} "
                    "works on the map; use ssm with a fixed or window order and conv causal or "
                    "null"
                )
        if self.beside is not None and self.beside.turn(1, 0):
            raise ValueError("beside: a shift is taken from the mixer only; remove it there")
        if self.beside is not None and width < 8:
            raise ValueError(f"beside (local_branch) needs width 8 or more (found {width})")
        if self.ffn is not None and self.ffn.hidden(width) < 1:
            raise ValueError(f"ffn ratio {self.ffn.ratio} leaves no hidden channel")

    @property
    def width_step(self) -> int:
        """What widths must be multiples of."""
        return math.lcm(*(m.width_step for m in (self.mixer, self.beside) if m is not None))

    def at_step(self, step: int) -> BlockConfig:
        """Return what stands for this block where widths are multiples of step: as many FLOPs."""
        beside = None if self.beside is None else self.beside.at_step(step)
        return self.model_copy(update={"mixer": self.mixer.at_step(step), "beside": beside})

    def adapts_to(self, side: int) -> tuple[BlockConfig, list[str]]:
        """Return what stands for this block on a small map, and what cannot act there."""
        mixer, notes = self.mixer.adapts_to(side)
        beside, more = (None, []) if self.beside is None else self.beside.adapts_to(side)
        return self.model_copy(update={"mixer": mixer, "beside": beside}), notes + more

    def canonical(
        self, width: int, shift: tuple[int, int] | None, class_token: bool
    ) -> dict[str, Any]:
        """Return plain data that is equal for blocks of the same function."""
        beside: Any = self.beside is not None
        if self.beside is not None and self.beside != LocalConvConfig():
            beside = self.beside.canonical(width)
        later = {  # what came after the first fingerprints is named only where it has an effect
            "norm_at": self.norm_at == "output" and bool(self.norm or self.ffn) and self.norm_at,
            "layer_scale": self.layer_scale is not None,
            "conv_position": self.conv_position,
        }
        return {
            "norm": plain(self.norm),
            "mixer": self.mixer.canonical(width, shift, class_token),
            "ffn": None if self.ffn is None else self.ffn.hidden(width),
            "local_branch": beside,
            "post_conv": self.post_conv,
            **{name: value for name, value in later.items() if value},
        }

    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        """Count norms, mixers, FFN and convolution."""
        positions = grid[0] * grid[1]
        tokens = positions + extra
        if self.conv_position:
            tally.conv("conv_position", 9 * width, width, positions)
        if self.layer_scale is not None:
            tally.add("layer_scale", width * (1 + (self.ffn is not None)))
        tally.norm("norm", self.norm, width, tokens)
        self.mixer.cost(tally, width, grid, extra)
        if self.beside is not None:
            self.beside.cost(tally, width, grid, extra)
            tally.channel_attention("beside", width, tokens, uses=2)
        if self.ffn is not None:
            hidden = self.ffn.hidden(width)
            tally.norm("norm", self.norm or NormConfig(), width, tokens)
            tally.linear("ffn", width, hidden, tokens)
            tally.linear("ffn", hidden, width, tokens)
        if self.post_conv:
            tally.conv("post_conv", 9 * width, 0, positions)
            tally.batch_norm("post_conv", width, positions)


class HeadConfig(Model):
    """Classifier.

    pool: "mean" or "max" over all tokens, or "token": the class token, the mean of two.
    norm_first: the norm acts at every position before pooling (VMamba) or on the pooled vector
    (MambaOut). mlp_ratio: hidden layer of that ratio with GELU and norm before the classifier
    (MambaOut), null for none. init_std: deviation of the classifier's weights at the start; no
    part of the fingerprint.
    """

    pool: Literal["mean", "max", "token"] = "mean"
    norm: Norm = NormConfig()
    norm_first: bool = True
    mlp_ratio: Annotated[float, Field(gt=0)] | None = None
    init_std: Annotated[float, Field(gt=0)] = 0.02

    def hidden(self, width: int) -> int:
        """Return the width of the hidden layer, for a head that has one."""
        assert self.mlp_ratio is not None
        return int(self.mlp_ratio * width)

    def canonical(self, width: int, class_tokens: int) -> dict[str, Any]:
        """Return plain data that is equal for heads of the same function."""
        head = self.model_dump(mode="json", exclude={"mlp_ratio", "init_std"})
        if self.mlp_ratio is not None:
            head["mlp_hidden"] = self.hidden(width)
        if (
            self.pool == "token" and class_tokens == 1
        ):  # one token's norm is the same before or after picking it
            del head["norm_first"]
        return head

    def cost(
        self, tally: Tally, width: int, tokens: int, class_tokens: int, num_classes: int
    ) -> None:
        """Count norms and layers. tokens: of the map."""
        pooled = class_tokens if self.pool == "token" else tokens + class_tokens
        tally.norm("head", self.norm, width, pooled if self.norm_first else 1)
        if self.mlp_ratio is not None:
            hidden = self.hidden(width)
            tally.linear("head", width, hidden, 1)
            tally.norm("head", self.norm, hidden, 1)
            width = hidden
        if num_classes:
            tally.linear("head", width, num_classes, 1)
