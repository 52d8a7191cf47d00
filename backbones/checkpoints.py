"""Released weights: reading their files, checking them against a network, loading them.

Files are read without running code from them: `torch.load(weights_only=True)` or safetensors.
"""

from __future__ import annotations

import operator
import os
import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from backbones.catalog import load_config
from backbones.config import BackboneConfig
from backbones.errors import ConfigError
from backbones.network import Backbone
from backbones.official import family_of, official_names
from backbones.official.names import Names, Renamed, Source

EMA_WRAPPERS = ("model_ema", "state_dict_ema", "ema_model", "ema")
WRAPPERS = ("model", "state_dict", "module")
LISTED = 5
"""How many keys of each kind an error names."""


class _YacsNode:
    """Stands in for the config object that Swin-style recipes save beside the weights.

    The restricted reader fills plain dictionaries only, so one is what making a node gives.
    """

    def __new__(cls) -> Any:
        return OrderedDict()


YACS = (_YacsNode, "yacs.config.CfgNode")
"""What torch's restricted reader is to make of such an object."""


def load_official(
    target: str | Path | Backbone, state_dict: Mapping[str, Any], *, ema: bool | None = None
) -> Backbone:
    """Return a network with released weights, in evaluation.

    target: a preset name, or a model made from a preset (another number of classes, say), which
        is loaded in place.
    state_dict: a released file's content; wrappers (model, state_dict, model_ema, `module.`) and
        older key generations are understood.
    ema: take averaged weights where the file holds both; None takes those that its family's
        published scores are of.
    Raises: ConfigError that lists missing, leftover and misshapen keys, or for a config that
        declares no family or one of another structure.
    """
    if isinstance(target, Backbone):
        config, model = target.config, target
    else:
        config = load_config(target)
        with torch.device("meta"):  # the weights come from the file: make none
            model = Backbone(config)
    ours = as_ours(config, shapes_of(model), state_dict, ema=ema)
    model.load_state_dict(ours, assign=not isinstance(target, Backbone))
    return model.eval()


def as_ours(
    config: BackboneConfig,
    shapes: Mapping[str, tuple[int, ...]],
    content: Mapping[str, Any],
    *,
    ema: bool | None = None,
) -> dict[str, Tensor]:
    """Return released weights by our keys, every key of the file accounted for.

    shapes: of our tensors, by key. content, ema and the errors: as `load_official`.
    """
    names = official_names(config)
    averaged = family_of(config).averaged if ema is None else ema
    weights = _modern(unwrap(content, ema=averaged), names)
    if odd := sorted(set(shapes) ^ set(names.sources)):
        raise ConfigError(
            f"{config.name or 'this config'!r} declares family {config.family}, but "
            f"{len(odd)} of its tensors do not match ({', '.join(odd[:LISTED])}); only the "
            "published designs have official checkpoints"
        )
    _check(weights, names, shapes, config.name or "model")
    return {key: _convert(source, weights, shapes[key]) for key, source in names.sources.items()}


def load_weights(model: Backbone, content: Mapping[str, Any]) -> Backbone:
    """Load a file's content into a model, in evaluation: weights by our keys, or released ones.

    Raises: ConfigError that lists missing, leftover and misshapen keys.
    """
    weights = unwrap(content)
    if is_released(model, weights):
        return load_official(model, content)
    _refuse(misfits(weights, shapes_of(model)), model.config.name or "the model")
    model.load_state_dict(weights)
    return model.eval()


def load_dense(model: Backbone, content: Mapping[str, Any]) -> Backbone:
    """Load the backbone of a released detector or segmenter into one with norms of its stages.

    The file's neck and heads are left where they are; so is the model's own classifier.
    Raises: ConfigError that lists missing, leftover and misshapen keys of the backbone, or for a
        family of which no such files are known.
    """
    family = family_of(model.config)
    if family.dense is None:
        raise ConfigError(
            f"no released detectors of family {model.config.family} are known to hold its backbone "
            "alone; load a classifier's weights"
        )
    names, inside = family.dense(model.config), unwrap(content)
    if any(key.startswith("backbone.") for key in inside):
        inside = {k[len("backbone.") :]: v for k, v in inside.items() if k.startswith("backbone.")}
    weights = _modern(inside, names)
    shapes = {key: shape for key, shape in shapes_of(model).items() if key in names.sources}
    _check(weights, names, shapes, model.config.name or "the model")
    ours = {key: _convert(source, weights, shapes[key]) for key, source in names.sources.items()}
    model.load_state_dict(ours, strict=False)
    return model.eval()


def unwrap(content: Mapping[str, Any], *, ema: bool = True) -> dict[str, Tensor]:
    """Return the state dict inside a checkpoint, without wrappers and `module.` prefixes.

    Raises: ConfigError when no tensors are found.
    """
    while not any(isinstance(value, Tensor) for value in content.values()):
        order = (*EMA_WRAPPERS, *WRAPPERS) if ema else (*WRAPPERS, *EMA_WRAPPERS)
        inner = [k for k in order if isinstance(content.get(k), Mapping) and content[k]]
        if not inner:
            found = ", ".join(sorted(map(str, content))[:LISTED])
            raise ConfigError(
                f"the checkpoint holds no weights: its keys are {found}; expected tensors, or one "
                f"of {', '.join((*WRAPPERS, *EMA_WRAPPERS))}"
            )
        content = content[inner[0]]
    weights = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    while weights and all(key.startswith("module.") for key in weights):
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def _modern(weights: dict[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Rename keys of older generations or other packages, and drop those without weights."""
    weights = {k: v for k, v in weights.items() if not re.search(names.ignored, k)}
    for sign, renamed in names.other:
        if any(re.search(sign, key) for key in weights):
            weights = {_renamed(key, renamed): value for key, value in weights.items()}
    return weights


def _renamed(key: str, renamed: Renamed) -> str:
    for old, new in renamed:
        if re.search(old, key):
            return re.sub(old, new, key)
    return key


def _check(
    weights: dict[str, Tensor], names: Names, shapes: Mapping[str, tuple[int, ...]], name: str
) -> None:
    wanted = {
        key: source.expected(shapes[ours])
        for ours, source in names.sources.items()
        for key in source.keys
    }
    _refuse(misfits(weights, wanted, _fits), name)


def _refuse(odd: str, name: str) -> None:
    if odd:
        raise ConfigError(
            f"the weights do not fit {name} ({odd}); check the preset, or pass "
            "a model with the file's number of classes"
        )


def is_released(model: torch.nn.Module, weights: Mapping[str, Tensor]) -> TypeGuard[Backbone]:
    """Whether a file's keys are those of a published design's authors rather than the model's."""
    if not isinstance(model, Backbone) or model.config.family is None:
        return False
    ours = model.state_dict()
    return len(set(ours) & set(weights)) * 2 <= len(ours)


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's tensors, by key."""
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def misfits(
    weights: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[int, ...]],
    fits: Callable[[tuple[int, ...], tuple[int, ...]], bool] = operator.eq,
) -> str:
    """Return every key that is missing, left over or misshapen, in words; nothing if all fit.

    Counters of BatchNorm, which older files lack, may be missing. fits: of shapes, as found and as
    expected.
    """
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = sorted(set(wanted) - set(weights) - optional)
    leftover = sorted(set(weights) - set(wanted))
    misshapen = [
        f"{key} {tuple(weights[key].shape)}, expected {shape}"
        for key, shape in sorted(wanted.items())
        if key in weights and not fits(tuple(weights[key].shape), shape)
    ]
    return "; ".join(
        f"{len(keys)} {kind}: {', '.join(keys)}"
        for kind, keys in (("missing", missing), ("left over", leftover), ("misshapen", misshapen))
        if keys
    )


def _fits(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether shapes agree; linear layers may be stored as 1 x 1 convolutions."""
    return found == expected or (len(expected) == 2 and found == (*expected, 1, 1))


def _convert(source: Source, weights: dict[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    if source.keys[0] not in weights:  # a BatchNorm counter that older files lack
        return torch.zeros(shape, dtype=torch.long)
    tensors = [weights[key].detach() for key in source.keys]
    if source.how == "stack":
        out = torch.stack(tensors)
    elif source.how == "concat":
        out = torch.cat(tensors)
    elif source.how == "class_last":
        table, middle = tensors[0], (tensors[0].shape[1] - 1) // 2
        out = torch.cat((table[:, :middle], table[:, middle + 1 :], table[:, middle, None]), dim=1)
    elif source.how == "class_first":
        out = torch.cat((tensors[0][:, 1:], tensors[0][:, :1]), dim=1)
    else:
        out = tensors[0].clone()
    out = out.reshape(shape)
    return out.float() if out.is_floating_point() else out


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Return the content of a .safetensors or torch file.

    Raises: ConfigError for a file that cannot be read so, or that needs code to be run.
    """
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        allowed = [Namespace, YACS]
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"no file {str(path)!r}; check the path") from None
    except Exception as error:  # readers raise many kinds for a damaged or foreign file
        # torch's own text advises to switch the check off; only its reason is passed on.
        _, found, detail = str(error).rpartition("WeightsUnpickler error:")
        reason = detail.split(" Please use")[0].strip().splitlines() if found else []
        first = reason[0] if reason else type(error).__name__
        raise ConfigError(
            f"cannot read {str(path)!r} without running code from it ({first}); save its state "
            "dict alone, best as .safetensors"
        ) from None
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"{str(path)!r} holds a {type(content).__name__}; expected a state dict or a "
            "dictionary around one"
        )
    return content


def save_weights(
    path: Path, weights: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write weights as .safetensors, whole or not at all; OSError where that cannot be."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, part, metadata)
        os.replace(part, path)
    except SafetensorError as error:
        raise OSError(str(error)) from None
    finally:
        part.unlink(missing_ok=True)


def convert_checkpoint(path: str | Path, preset: str, out: str | Path) -> Backbone:
    """Rewrite a released checkpoint with our keys, as safetensors, and return the network.

    The file's metadata holds the preset and its fingerprint. Load it by
    `create(preset).load_state_dict(safetensors.torch.load_file(out))`.
    Raises: ConfigError as `read_checkpoint` and `load_official`, and where it cannot be written.
    """
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"--out {str(out)!r} must end in .safetensors")
    load_config(preset)
    model = load_official(preset, read_checkpoint(path))
    metadata = {"preset": preset, "fingerprint": model.config.fingerprint(), "format": "pt"}
    try:
        save_weights(Path(out), model.state_dict(), metadata)
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r}: {error}; choose another --out") from None
    return model
