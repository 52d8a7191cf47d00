"""The proof of an export: a fresh interpreter builds the model from the file alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from backbones import load_config
from backbones.image_size import sides
from nas.errors import StudyError
from nas.export.weights import logits_digest

CHECK_TIMEOUT_S = 600


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
        [sys.executable, "-m", "nas.export.rebuild", str(path)],
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
    size = sides(document["cost"]["image_size"])
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(path.with_name(weights["file"])))
        logits = logits_digest(model, config, size)
    countable = document["cost"]["convention"] == "fvcore"
    with torch.no_grad():
        flops = int(count_flops(model, size)) if countable else None
    params = sum(p.numel() for p in model.parameters())
    return Identity(config.fingerprint(), params, flops, logits)


if __name__ == "__main__":
    print(json.dumps(asdict(identity(Path(sys.argv[1])))))
