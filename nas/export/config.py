"""Exports: one YAML file from which anybody rebuilds the identical model.

The file holds the architecture in the backbone language, its fingerprint and cost, and where it
came from: study, trial, score, recipe, environment. Nothing is written that was not checked: a
fresh interpreter rebuilds the model from the file and must arrive at the same fingerprint,
parameters and FLOPs and, with weights, at the same logits.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from backbones import load_config
from backbones.config import BackboneConfig
from nas.errors import StudyError
from nas.store import queries as leaderboard
from nas.store.exports import record_export

SCHEMA = 1
CHECK_TIMEOUT_S = 600
PROBE_BATCH = 2
_SOURCE = (
    "study",
    "trial",
    "role",
    "label",
    "score",
    "metrics",
    "seed",
    "space",
    "space_version",
    "choices",
)


@dataclass(frozen=True)
class Identity:
    """What two builds of one architecture must share.

    params: of the built module. flops: fvcore's count on the built module with the project's
    handles for scans, at the export's image size; None where the cost convention is not fvcore.
    logits: SHA-256 of the float32 CPU logits of a fixed random batch, None without weights.
    """

    fingerprint: str
    params: int
    flops: int | None
    logits: str | None


def export_trials(
    study: str,
    storage: str,
    *,
    which: str = "best",
    out: Path | None = None,
    weights: bool = False,
) -> list[tuple[int, Path]]:
    """Export the best trial, the Pareto front, or one trial, each proven to rebuild.

    which: "best", "pareto" (top-1 against FLOPs and against parameters) or a trial number.
    out: file to write, or with "pareto" a folder; by default runs/exports.
    Returns: (trial number, path) of every file written.
    Raises: StoreError; StudyError for an unknown study or trial, a study without a score, or a
        design that does not rebuild.
    """
    folder = Path("runs") / "exports" if out is None or which != "pareto" else out
    written = []
    for number in _numbers(study, storage, which):
        trial = leaderboard.trial(study, storage, number)
        path = out if out is not None and which != "pareto" else None
        path = path or folder / f"{study}-trial{number}.yaml"
        write_export(
            path,
            BackboneConfig.model_validate(trial["config"]),
            image_size=trial["image_size"],
            convention=trial["convention"],
            source={key: trial[key] for key in _SOURCE},
            recipe=trial["recipe"],
            environment={
                **{key: trial[key] for key in ("backend", "device", "dtype")},
                **(trial["environment"] or {}),
            },
            weights_seed=trial["seed"] if weights else None,
        )
        record_export(storage, study, number, path, at=time.time())
        written.append((number, path))
    return written


def _numbers(study: str, storage: str, which: str) -> list[int]:
    if which.isdecimal():
        return [int(which)]
    if which not in ("best", "pareto"):
        raise StudyError(f"trial {which!r} is no trial; use a number, best or pareto")
    summary = leaderboard.summary(study, storage, top=1)
    if summary["best"] is None:
        raise StudyError(
            f"study {study!r} has no candidate with a score yet; `status {study}` says where it is"
        )
    if which == "best":
        return [summary["best"]["trial"]]
    return sorted({row["trial"] for front in summary["pareto"].values() for row in front})


def write_export(
    path: Path,
    config: BackboneConfig,
    *,
    image_size: int,
    convention: str,
    source: dict[str, Any],
    recipe: dict[str, Any],
    environment: dict[str, Any],
    weights_seed: int | None = None,
) -> Path:
    """Write `config` and its provenance to `path`, then prove that it rebuilds.

    weights_seed: with a seed, the model's initial weights under it are written beside the file
    as safetensors. (A trial trains a scaled-down proxy; its weights do not fit this model.)

    Raises: StudyError when the file cannot be written, or when the rebuilt model differs; then
    no file is left behind.
    """
    from backbones import cost

    counted = cost(config, image_size=image_size, convention=convention)
    weights = None if weights_seed is None else path.with_suffix(".safetensors")
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "fingerprint": config.fingerprint(),
        "cost": {
            "params": counted.params,
            "flops": counted.flops,
            "convention": convention,
            "image_size": image_size,
        },
        "source": source,
        "config": config.to_dict(),
        "recipe": recipe,
        "environment": environment,
    }
    if weights is not None:
        document["weights"] = {"file": weights.name, "seed": weights_seed}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise _cannot_write(path, exc) from None
    partial = path.with_name(f".{path.name}.partial")
    proven = False
    try:
        if weights is not None and weights_seed is not None:
            digest = _write_weights(weights, config, weights_seed, image_size)
            document["weights"]["logits_sha256"] = digest
        partial.write_text(
            yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100)
        )
        verify_export(partial)
        partial.replace(path)
        proven = True
    except OSError as exc:
        raise _cannot_write(path, exc) from None
    finally:
        if not proven:
            partial.unlink(missing_ok=True)
            if weights is not None:
                weights.unlink(missing_ok=True)
    return path


def _cannot_write(path: Path, exc: OSError) -> StudyError:
    return StudyError(f"cannot write {str(path)!r}: {exc}; choose another --out")


def verify_export(path: Path) -> Identity:
    """Rebuild the model of an export in a fresh interpreter and compare it with the file.

    Raises: StudyError naming the first value that differs, with both values.
    """
    document = yaml.safe_load(path.read_text())
    found = _identity_in_fresh_interpreter(path)
    stated = document["cost"]
    expected = {
        "fingerprint": document["fingerprint"],
        "params": stated["params"],
        "flops": stated["flops"] if found.flops is not None else None,
        "logits": document.get("weights", {}).get("logits_sha256"),
    }
    for name, value in asdict(found).items():
        if value != expected[name]:
            raise StudyError(
                f"{path}: rebuilt model has {name} {value}, the file says {expected[name]}; "
                "the file is not a faithful description, report this with the file"
            )
    return found


def _identity_in_fresh_interpreter(path: Path) -> Identity:
    # The parent's import path is handed over, so that a checkout that is not installed works.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "nas.export.config", str(path)],
        capture_output=True,
        text=True,
        timeout=CHECK_TIMEOUT_S,
        env=env,
        check=False,
    )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise StudyError(f"{path} does not rebuild in a fresh interpreter: {reason[0]}")
    return Identity(**json.loads(done.stdout.splitlines()[-1]))


def identity(path: Path) -> Identity:
    """Build the model of an export in this process and measure what identifies it."""
    import torch

    import backbones
    from backbones.flop_handles import count_flops

    document = yaml.safe_load(path.read_text())
    config = load_config(path)
    model = backbones.create(config).eval()
    weights, logits = document.get("weights"), None
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(path.with_name(weights["file"])))
        logits = _logits_digest(model, config, document["cost"]["image_size"])
    size = document["cost"]["image_size"]
    countable = document["cost"]["convention"] == "fvcore"
    with torch.no_grad():
        flops = int(count_flops(model, size)) if countable else None
    params = sum(p.numel() for p in model.parameters())
    return Identity(config.fingerprint(), params, flops, logits)


def _write_weights(path: Path, config: BackboneConfig, seed: int, image_size: int) -> str:
    import torch
    from safetensors.torch import save_file

    import backbones

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = backbones.create(config).eval()
    save_file(model.state_dict(), path)
    return _logits_digest(model, config, image_size)


def _logits_digest(model: Any, config: BackboneConfig, image_size: int) -> str:
    import torch

    noise = torch.Generator().manual_seed(0)
    batch = torch.randn(PROBE_BATCH, config.in_chans, image_size, image_size, generator=noise)
    with torch.no_grad():
        logits = model(batch)
    return hashlib.sha256(logits.float().contiguous().numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    print(json.dumps(asdict(identity(Path(sys.argv[1])))))
