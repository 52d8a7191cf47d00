"""The network: stem, stages of blocks, head. One class for every published family.

Tokens travel as (B, L, C): the H x W map row by row, then class tokens if there are any.
Speaks timm's conventions, so that timm's training, feature extraction and tuning tools work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones import initialization as init
from backbones.blocks import Block
from backbones.config import BackboneConfig, PlacedBlock, resolve_blocks
from backbones.errors import ConfigError
from backbones.image_size import sides
from backbones.language import CLASS_TOKENS, Grid
from backbones.norms import make_norm
from backbones.parts import HeadConfig
from backbones.tables import side, table
from backbones.timm_conventions import TimmConventions

ROPE_BASE = 10000.0


def _rope_angles(
    height: int, width: int, channels: int, reference_height: int, reference_width: int
) -> np.ndarray:
    """Return the angle of every token and channel pair. Shapes: (H * W, C).

    Pairs of the first half turn with the row, those of the second with the column; other grids
    than the reference are stretched over it.
    """
    rates = ROPE_BASE ** (-np.arange(channels // 4) / (channels // 4)).repeat(2)
    rows, cols = np.divmod(np.arange(height * width), width)
    rows, cols = rows * reference_height / height, cols * reference_width / width
    return np.concatenate([np.outer(rows, rates), np.outer(cols, rates)], axis=1)


def _rope(wave: int, *args: Any) -> np.ndarray:
    return (np.cos, np.sin)[wave](_rope_angles(*args))


def _first_names(_: nn.Module, state: dict[str, Any], prefix: str, *args: Any) -> None:
    """Rename the keys of weights stored before orders and mixers were named in general."""
    for key in list(state):
        new = key.replace(".mixer.quadtree.", ".mixer.layout.")
        new = new.replace(".local_branch.attention.", ".beside.attention.")
        new = new.replace(".local_branch.", ".beside.mixer.")
        if new != key:
            state[new] = state.pop(key)


DROP_PATHS = ("linear", "stagewise", "constant")
"""Rates of blocks: rising from 0, rising from stage to stage, or the same for all."""


def drop_path_rates(config: BackboneConfig, schedule: str) -> list[float]:
    """Return the drop path rate of each block, the first first.

    Raises: ConfigError for an unknown schedule.
    """
    if schedule not in DROP_PATHS:
        raise ConfigError(
            f"drop_path_schedule {schedule!r} is unknown; use one of {', '.join(DROP_PATHS)}"
        )
    depths = [stage.depth for stage in config.stages]
    if schedule == "stagewise":
        each = np.linspace(0, config.drop_path_rate, len(depths)).repeat(depths)
    else:
        start = 0 if schedule == "linear" else config.drop_path_rate
        each = np.linspace(start, config.drop_path_rate, sum(depths))
    return [float(rate) for rate in each]


class Stage(nn.Module):
    """Blocks at one resolution, behind the downsampling that leads to them."""

    def __init__(self, downsample: nn.Module | None, blocks: list[Block]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)

    def enter(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Bring tokens to the resolution of the stage."""
        if self.downsample is None:
            return x, grid
        x = self.downsample(x.unflatten(1, grid))
        return x.flatten(1, 2), (side(x.shape[1]), side(x.shape[2]))


class Head(nn.Module):
    """norm and optional hidden layer before the classifier."""

    def __init__(self, config: HeadConfig, width: int, num_classes: int, drop_rate: float) -> None:
        super().__init__()
        self.norm = make_norm(config.norm, width)
        self.pre_logits: nn.Module = nn.Identity()
        self.num_features = width
        if config.mlp_ratio is not None:
            self.num_features = config.hidden(width)
            fc = init.linear(width, self.num_features)
            norm = make_norm(config.norm, self.num_features)
            self.pre_logits = nn.Sequential(fc, nn.GELU(), norm)
        self.drop = nn.Dropout(drop_rate)
        self.init_std = config.init_std
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """Replace the classifier; 0 classes leave none."""
        known = next(self.parameters(), torch.empty(0))
        std = self.init_std
        fc = init.linear(self.num_features, num_classes, std=std) if num_classes else nn.Identity()
        self.fc = fc.to(known.device, known.dtype)


class Backbone(TimmConventions):
    """A vision backbone as its config describes it.

    Shapes: images (B, in_chans, H, W) -> logits (B, num_classes); any H and W that leave a map
    of at least one token at every stage.

    drop_rate: dropout before the classifier. drop_path_schedule: how the rates of blocks come to
        the config's, see `DROP_PATHS`. stage_norms: a norm of its own for each stage's map, in
        `forward_intermediates`, as detectors are trained on (VMamba's `outnorm`).
    """

    def __init__(
        self,
        config: BackboneConfig,
        drop_rate: float = 0.0,
        drop_path_schedule: str = "linear",
        stage_norms: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.num_classes, self.in_chans = config.num_classes, config.in_chans
        self.has_class_token = config.class_token != "none"
        self.num_prefix_tokens = config.class_tokens
        self.global_pool = {"mean": "avg", "max": "max", "token": "token"}[config.head.pool]
        # A config's mean is over all tokens; timm's, set by `reset_classifier`, over the map's.
        self.pools_class_token = True
        self.output_fmt = "NLC" if self.has_class_token else "NHWC"
        self.grad_checkpointing = False
        widths = [stage.width for stage in config.stages]
        self.stem = config.stem.build(config.in_chans, widths[0])
        self.reference_grid = config.stem.grid(sides(config.image_size))
        self.rope_grid = self.reference_grid
        tokens = self.reference_grid[0] * self.reference_grid[1] + config.class_tokens
        learned = config.position == "learned"
        self.pos_embed = init.normal(1, tokens, widths[0]) if learned else None
        self.cls_token = (
            init.normal(1, config.class_tokens, widths[0], std=config.class_token_std)
            if self.has_class_token
            else None
        )
        placed = resolve_blocks(config)
        depth = sum(map(len, placed))
        rates = iter(drop_path_rates(config, drop_path_schedule))
        self.stages = nn.ModuleList()
        for i, (stage, blocks) in enumerate(zip(config.stages, placed)):
            down = stage.downsample and stage.downsample.build(widths[i - 1], widths[i])
            self.stages.append(Stage(down, [self._block(b, depth, next(rates)) for b in blocks]))
        self.head = Head(config.head, widths[-1], config.num_classes, drop_rate)
        self.is_plain = len(self.stages) == 1
        self.num_features = self.embed_dim = widths[-1]
        self.head_hidden_size = self.head.num_features
        self.feature_info = self._describe_features()
        norms = [make_norm(config.head.norm, i["num_chs"]) for i in self.feature_info]
        self.stage_norms = nn.ModuleList(norms if stage_norms else [])
        if config.conv_init is None:
            init.convolutions(self.stem, config.stem.conv_init)
        else:
            init.convolutions(self, config.conv_init)
        self.register_load_state_dict_pre_hook(_first_names)

    def _block(self, placed: PlacedBlock, depth: int, drop_path: float) -> Block:
        place = list(CLASS_TOKENS).index(self.config.class_token)
        return Block(placed, depth=depth, drop_path=drop_path, class_token=place)

    def _describe_features(self) -> list[dict[str, Any]]:
        """List the maps that feature extraction can take: stages, or blocks of a plain network."""
        stride = self.config.stem.step
        if self.is_plain:
            return [
                {
                    "num_chs": self.num_features,
                    "reduction": stride,
                    "module": f"stages.0.blocks.{i}",
                }
                for i in range(len(self.stages[0].blocks))
            ]
        return [
            {"num_chs": stage.width, "reduction": stride * 2**i, "module": f"stages.{i}"}
            for i, stage in enumerate(self.config.stages)
        ]

    # -- forward --

    def embed(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Return the tokens (B, L, C) that the first block reads, and their grid."""
        x = self.stem(image)
        grid = (side(x.shape[1]), side(x.shape[2]))
        x = x.flatten(1, 2)
        if self.cls_token is not None:
            x = torch.cat((x, self.cls_token.expand(x.shape[0], -1, -1).to(x.dtype)), dim=1)
        if self.pos_embed is not None:
            x = x + self.position_table(grid)
        return x, grid

    def position_table(self, grid: Grid) -> Tensor:
        """Return the learned positions of a grid's tokens, and of the class tokens."""
        if grid == self.reference_grid:
            return self.pos_embed
        count = self.reference_grid[0] * self.reference_grid[1]
        patches, rest = self.pos_embed[:, :count], self.pos_embed[:, count:]
        patches = resample_abs_pos_embed(
            patches, list(grid), old_size=list(self.reference_grid), num_prefix_tokens=0
        )
        return torch.cat((patches, rest), dim=1)

    def _rotate(self, x: Tensor, grid: Grid) -> Tensor:
        """Rotate channel pairs (a, b) of the map's tokens by their angles."""
        args = (*grid, side(x.shape[-1]), *self.rope_grid)
        dtype = torch.promote_types(x.dtype, torch.float32)
        cos, sin = (table(_rope, x.device, dtype, wave, *args) for wave in (0, 1))
        tokens = grid[0] * grid[1]
        patches, rest = x[:, :tokens], x[:, tokens:]
        a, b = patches.unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((-b, a), dim=-1).flatten(-2)
        return torch.cat(((patches * cos + turned * sin).to(x.dtype), rest), dim=1)

    def run_block(self, block: Block, x: Tensor, grid: Grid) -> Tensor:
        """Run one block on tokens (B, L, C)."""
        if self.config.rope:
            x = self._rotate(x, grid)
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, x, grid, use_reentrant=False)
        return block(x, grid)

    def forward_features(self, image: Tensor) -> Tensor:
        """Return the final map (B, H', W', C), or tokens (B, L, C), class tokens first.

        Normalized if the head's norm acts before pooling.
        """
        x, grid = self.embed(image)
        for stage in self.stages:
            x, grid = stage.enter(x, grid)
            for block in stage.blocks:
                x = self.run_block(block, x, grid)
        return self.leave(x, grid)

    def leave(self, x: Tensor, grid: Grid) -> Tensor:
        """Return the last block's tokens as features."""
        if self.config.head.norm_first and self.global_pool != "token":
            x = self.head.norm(x)
        if not self.has_class_token:
            return x.unflatten(1, grid)
        patches, first = self.apart(x, grid)
        return torch.cat((first, patches), dim=1)

    @staticmethod
    def apart(x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return the map's tokens and the class tokens."""
        return x[:, : grid[0] * grid[1]], x[:, grid[0] * grid[1] :]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, num_classes) of features, or what the classifier would read."""
        if not self.global_pool and not self.num_classes:
            return x
        normed = self.config.head.norm_first and self.global_pool != "token"
        if self.has_class_token and self.global_pool == "avg" and not self.pools_class_token:
            x = x[:, self.num_prefix_tokens :]
        if self.global_pool == "avg":
            x = x.mean(1) if self.has_class_token else x.mean((1, 2))
        elif self.global_pool == "max":
            x = x.amax(1) if self.has_class_token else x.amax((1, 2))
        elif self.global_pool == "token":
            x = x[:, : self.num_prefix_tokens]
            if self.config.head.norm_first:
                x, normed = self.head.norm(x), True
            x = x.mean(1)
        if not normed:
            x = self.head.norm(x)
        x = self.head.drop(self.head.pre_logits(x))
        return x if pre_logits else self.head.fc(x)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits. Shapes: (B, in_chans, H, W) -> (B, num_classes)."""
        return self.forward_head(self.forward_features(image))

    def walk(self, image: Tensor) -> Iterator[tuple[Tensor, Grid]]:
        """Yield the tokens (B, L, C) of each map of `feature_info`, class tokens last; its grid."""
        x, grid = self.embed(image)
        for stage in self.stages:
            x, grid = stage.enter(x, grid)
            for block in stage.blocks:
                x = self.run_block(block, x, grid)
                if self.is_plain:
                    yield x, grid
            if not self.is_plain:
                yield x, grid
