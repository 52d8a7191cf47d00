"""Networks to train or to evaluate, by name: presets, config files, timm's models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import backbones
from backbones.catalog import override
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.image_size import sides
from backbones.official import FAMILIES
from backbones.outside import PREFIX as TIMM
from kernels.errors import nearest
from nas.errors import TrainingError
from nas.training.readout import Readout, TaskNet
from nas.training.tasks.dense import Dense

_LOCAL = "local-dir:"
_CROP = 0.875  # of a design that no paper published, as timm's default


@dataclass(frozen=True)
class Network:
    """An architecture, not built yet.

    name: short, for folders. identity: equal for equal networks. image_size: its own, in pixels.
    mean, std, interpolation, crop_pct: how its images are prepared. config: None of timm's own.
    make: (num_classes, image_size, drop_path, drop_rate) -> module; 0 classes leave no classifier.
    """

    name: str
    identity: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    config: BackboneConfig | None
    make: Callable[..., nn.Module]

    def build(
        self,
        *,
        num_classes: int,
        image_size: int,
        dense: tuple[Dense, int] | None = None,
        drop_path: float | None = None,
        drop_rate: float = 0.0,
    ) -> nn.Module:
        """Return the network for images of three channels.

        dense: the task and the tokens on a side, for a network that answers for every token.
        Raises: ConfigError for a design that does not fit the images.
        """
        options: dict[str, Any] = {"drop_path": drop_path, "drop_rate": drop_rate}
        if dense is None:
            return self.make(num_classes, image_size, **options)
        task, grid = dense
        if self.config is None:
            return TimmMaps(self.make(None, image_size, **options), task.outputs, grid)
        # A hidden layer in a head that nothing asks would be weights without gradients.
        model: Any = self.make(0, image_size, **options)
        return TaskNet(model, [task], grid)


class TimmMaps(nn.Module):
    """One of timm's models, whose maps are read out for every token.

    Shapes: images (B, 3, S, S) -> (B, grid, grid, outputs).
    """

    def __init__(self, model: Any, outputs: int, grid: int) -> None:
        super().__init__()
        self.model = model
        self.readouts = nn.ModuleDict(
            {"0": Readout(model.feature_info.channels(), outputs, grid, 1)}
        )
        self.last = str(model.feature_info.module_name()[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Return the answers of all tokens."""
        channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        maps = [m if channels_last else m.permute(0, 2, 3, 1) for m in self.model(images)]
        answers: Tensor = self.readouts["0"](maps)
        return answers


def find_network(arch: str) -> Network:
    """Return the network of a preset name, a YAML file or `timm:NAME`.

    Raises: ConfigError or TrainingError for a name that is none of them, with the nearest.
    """
    return _timm(arch.removeprefix(TIMM)) if arch.startswith(TIMM) else _ours(arch)


def _ours(arch: str) -> Network:
    from pathlib import Path

    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    config = backbones.load_config(arch)
    if config.in_chans != 3:
        raise ConfigError(
            f"{arch!r} takes {config.in_chans} channel(s); images are shown with 3: set in_chans: 3"
        )
    own = max(sides(config.image_size))  # full trainings are on squares
    family = FAMILIES.get(config.family or "")

    def make(
        num_classes: int | None, image_size: int, drop_path: float | None, drop_rate: float
    ) -> nn.Module:
        asked = config
        if num_classes == 0:
            head = config.head.model_copy(update={"mlp_ratio": None})
            asked = config.model_copy(update={"head": head})
        fields = {"num_classes": num_classes, "image_size": image_size, "drop_path_rate": drop_path}
        model: nn.Module = backbones.create(override(asked, **fields), drop_rate=drop_rate)
        return model

    return Network(
        name=Path(arch).stem if Path(arch).suffix else arch,
        identity=config.fingerprint(),
        image_size=own,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        interpolation="bicubic",
        crop_pct=_CROP if family is None else family.crop_pct,
        config=config,
        make=make,
    )


def _timm(name: str) -> Network:
    import timm
    from timm.data import resolve_data_config

    import backbones.timm_entry  # noqa: F401  (a folder that was exported names one of ours)

    local = name.startswith(_LOCAL)
    if not local and not timm.is_model(name):
        known = [TIMM + model for model in timm.list_models()]
        hint = nearest(TIMM + name, known, "timm.list_models() names them")
        raise TrainingError(f"timm has no model {name!r}; {hint}")

    def make(
        num_classes: int | None, image_size: int, drop_path: float | None, drop_rate: float
    ) -> nn.Module:
        options: dict[str, Any] = {"features_only": True} if num_classes is None else {}
        if num_classes is not None:
            options |= {"num_classes": num_classes, "drop_rate": drop_rate}
        if drop_path is not None:
            options["drop_path_rate"] = drop_path
        if fixed:
            options["img_size"] = image_size
        try:
            model: nn.Module = timm.create_model(name, **options)
        except (TypeError, RuntimeError, AssertionError) as error:
            raise TrainingError(f"timm cannot make {name!r} so: {error}") from None
        return model

    cfg = _pretrained_cfg(name)
    data = resolve_data_config({}, pretrained_cfg=cfg)
    fixed = bool(cfg.get("fixed_input_size"))
    return Network(
        name=name.rstrip("/").rpartition("/")[2] if local else name,
        identity=f"{TIMM}{name}",
        image_size=int(data["input_size"][-1]),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
        crop_pct=float(data["crop_pct"]),
        config=None,
        make=make,
    )


def _pretrained_cfg(name: str) -> dict[str, Any]:
    import timm

    if not name.startswith(_LOCAL):
        return dict(timm.get_pretrained_cfg(name).to_dict())
    try:
        cfg: Any = timm.create_model(name).pretrained_cfg
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{name!r} holds no model for timm: {error}; give a folder that export --timm wrote"
        ) from None
    return dict(cfg)
