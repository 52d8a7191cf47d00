"""Maps for detectors and segmenters: a backbone under a feature pyramid, as torchvision takes it.

    from torchvision.models.detection import MaskRCNN
    detector = MaskRCNN(Pyramid("vmamba_tiny_s1l8"), num_classes=91)

Norms of their own stand on the stages' maps, as the released detectors of VMamba have them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from backbones.catalog import load_config, override
from backbones.checkpoints import load_dense, load_weights, unwrap
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.network import Backbone

EXTRA = ("pool", "p6p7", "none")
PLAIN_SCALES = (4.0, 2.0, 1.0, 0.5)


class Pyramid(nn.Module):
    """A backbone and the feature pyramid over its stages' maps.

    source: a preset, a YAML or exported file, or a config. channels: of every level. extra:
        coarser levels, "pool" one (Mask R-CNN), "p6p7" two (RetinaNet) or "none".
    weights: the content of a file: the backbone of a released detector or segmenter, or a
        classifier's weights, ours or released; see `backbones.read_checkpoint`.
    overrides: as `backbones.create`.
    Shapes: (B, 3, H, W) -> a map (B, channels, ., .) for each level, by name, finest first. A
        plain backbone's one map is brought to four scales first.
    Raises: ConfigError for an unknown extra, or weights that do not fit.
    Source: FPN, arXiv 1612.03144; for plain backbones the simple pyramid of ViTDet, arXiv
        2203.16527, section 3.
    """

    def __init__(
        self,
        source: str | Path | BackboneConfig,
        *,
        channels: int = 256,
        extra: str = "pool",
        weights: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__()
        if extra not in EXTRA:
            raise ConfigError(f"extra {extra!r} is unknown; use one of {', '.join(EXTRA)}")
        config = override(load_config(source), **overrides)
        body = Backbone(config, stage_norms=True)
        if weights is not None:
            _load(body, weights)
        last = len(body.feature_info) - 1
        self.levels = [last] if body.is_plain else list(range(last + 1))
        body.prune_intermediate_layers(self.levels, prune_norm=True)
        widths = [body.feature_info[i]["num_chs"] for i in self.levels]
        self.scales = nn.ModuleList()
        if body.is_plain:  # norms of the maps within it, which nothing reads, go
            body.stage_norms = nn.ModuleList([*[nn.Identity()] * last, body.stage_norms[last]])
            self.scales.extend(_scale(widths[0], scale) for scale in PLAIN_SCALES)
            widths = widths * len(PLAIN_SCALES)
        self.body, self.out_channels = body, channels
        coarser = {
            "pool": LastLevelMaxPool(),
            "p6p7": LastLevelP6P7(channels, channels),
            "none": None,
        }[extra]
        self.fpn = FeaturePyramidNetwork(widths, channels, coarser)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the levels' maps by name."""
        maps = self.body.forward_intermediates(images, indices=self.levels, intermediates_only=True)
        if self.scales:
            maps = [scale(maps[0]) for scale in self.scales]
        found: OrderedDict[str, Tensor] = self.fpn(
            OrderedDict((str(i), each) for i, each in enumerate(maps))
        )
        return found


class Segmenter(nn.Module):
    """A pyramid, its levels summed at the finest one, and torchvision's plain FCN head.

    Shapes: (B, 3, H, W) -> scores (B, num_classes, H, W).
    """

    def __init__(self, pyramid: Pyramid, num_classes: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.head = FCNHead(pyramid.out_channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of every pixel's classes."""
        finest, *coarser = self.pyramid(images).values()
        for each in coarser:
            finest = finest + F.interpolate(each, finest.shape[-2:], mode="bilinear")
        return F.interpolate(self.head(finest), images.shape[-2:], mode="bilinear")


def _load(body: Backbone, weights: Mapping[str, Any]) -> None:
    """Load a detector's backbone, or a classifier's weights beside fresh norms of the maps."""
    if any(key.startswith(("backbone.outnorm", "outnorm")) for key in unwrap(weights)):
        load_dense(body, weights)
        return
    norms, body.stage_norms = body.stage_norms, nn.ModuleList()
    load_weights(body, weights)
    body.stage_norms = norms


def _scale(width: int, scale: float) -> nn.Module:
    """Return what brings a map to a multiple of its size."""
    if scale == 4.0:
        first = nn.ConvTranspose2d(width, width, 2, stride=2)
        return nn.Sequential(first, nn.GELU(), nn.ConvTranspose2d(width, width, 2, stride=2))
    if scale == 2.0:
        return nn.ConvTranspose2d(width, width, 2, stride=2)
    return nn.Identity() if scale == 1.0 else nn.MaxPool2d(2)
