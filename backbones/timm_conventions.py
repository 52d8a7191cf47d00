"""What timm expects of a model beside its forward pass: features, heads, groups of layers."""

from __future__ import annotations

from typing import Any

from timm.models._features import feature_take_indices
from torch import Tensor, nn

from backbones.image_size import sides


class TimmConventions(nn.Module):
    """The conventions, for a `backbones.network.Backbone`, which says what the attributes are."""

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        return_prefix_tokens: bool = False,
    ) -> Any:
        """Return the maps of `feature_info` at the given indices, and the final features.

        norm: apply the head's norm to the last map, the only one of its width in training; norms
            of stages act on each map in any case.
        return_prefix_tokens: give pairs of a map and its class tokens (B, tokens, C).
        Shapes: each map (B, C, H, W), or (B, H, W, C) for output_fmt NHWC; without class token.
        """
        formats = ("NCHW", "NHWC")
        if output_fmt not in formats:
            raise ValueError(f"output_fmt {output_fmt!r} is unknown; use {' or '.join(formats)}")
        taken, last = feature_take_indices(len(self.feature_info), indices)
        maps: list[Any] = []
        for i, (tokens, grid) in enumerate(self.walk(x)):
            finished = i + 1 == len(self.feature_info) or self.is_plain
            if i in taken:
                given, first = self.apart(self._normed(tokens, i, norm), grid)
                given = given.unflatten(1, grid)
                if output_fmt == "NCHW":
                    given = given.permute(0, 3, 1, 2).contiguous()
                maps.append((given, first) if return_prefix_tokens else given)
            if stop_early and i >= last:
                break
        if intermediates_only:
            return maps
        return (self.leave(tokens, grid) if finished else tokens.unflatten(1, grid)), maps

    def _normed(self, tokens: Tensor, at: int, norm: bool) -> Tensor:
        if len(self.stage_norms):
            return self.stage_norms[at](tokens)
        return self.head.norm(tokens) if norm and at + 1 == len(self.feature_info) else tokens

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what feature extraction at these indices does not need; return the indices."""
        taken, last = feature_take_indices(len(self.feature_info), indices)
        self.stage_norms = self.stage_norms[: last + 1]
        if self.is_plain:
            self.stages[0].blocks = self.stages[0].blocks[: last + 1]
        else:
            self.stages = self.stages[: last + 1]
        if prune_norm:
            self.head.norm = nn.Identity()
        if prune_head:
            self.head.pre_logits = nn.Identity()
            self.reset_classifier(0)
        return taken

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; 0 classes leave none, and with global_pool "" the features."""
        if global_pool is not None:
            known = ("avg", "max", "") + ("token",) * self.has_class_token
            if global_pool not in known:
                raise ValueError(f"global_pool {global_pool!r} is unknown; use one of {known}")
            self.global_pool = global_pool
            self.pools_class_token = False
        self.num_classes = num_classes
        self.head.reset(num_classes)

    def set_input_size(self, img_size: int | tuple[int, int], patch_size: None = None) -> None:
        """Resize the learned positions to inputs of one size; what the model computes there stays.

        img_size: side in pixels, or (H, W); other sizes go on working. patch_size: timm's
            argument; the stem is what the config says.
        """
        grid = self.config.stem.grid(sides(img_size))
        if self.pos_embed is not None:
            self.pos_embed = nn.Parameter(self.position_table(grid).detach().clone())
        self.reference_grid = grid

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the inside of blocks in the backward pass to save memory."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Name parameters that weight decay would harm: positions, and those of the dynamics.

        Differs: VMamba's and LocalMamba's recipes decay A and the dt bias, by accident.
        """
        kept = {"pos_embed", "cls_token"}
        dynamics = ("A_log", "D", "dt_bias", "move_bias")
        names = (name for name, _ in self.named_parameters())
        return kept | {name for name in names if name.rsplit(".", 1)[-1] in dynamics}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the patterns by which timm groups layers for layer-wise learning rates."""
        stem = r"^stem|pos_embed|cls_token"
        if coarse and not self.is_plain:
            return {"stem": stem, "blocks": r"^stages\.(\d+)"}
        return {
            "stem": stem,
            "blocks": [
                (r"^stages\.(\d+)\.downsample", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^head\.norm", (99999,)),
            ],
        }
