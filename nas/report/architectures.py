"""What an architecture costs, counted and, on request, measured."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from backbones import cost, list_presets, load_config
from backbones.config import BackboneConfig
from backbones.image_size import ImageSize, shown, sides
from backbones.mixers.attention import AttentionConfig
from backbones.outside import PREFIX, TimmConfig
from backbones.tally import Tally
from nas.errors import StudyError
from nas.report.console import table
from nas.report.text import giga, mega, percent

LATENCY_BATCH = 8
LATENCY_REPEATS = 5


def profile(
    arch: str,
    *,
    image_size: ImageSize = 224,
    convention: str = "fvcore",
    verify: bool = False,
    latency: bool = False,
) -> dict[str, Any]:
    """Count an architecture per stage and per component.

    arch: preset name, config or exported file, or timm:NAME. verify: build the model and compare
    its parameters and fvcore's count with the analytic cost. latency: measure inference.

    Units: params and flops are plain counts on one image; throughput is images per second.
    Raises: ConfigError for an unknown arch; StudyError when a verified count differs, or there is
        none to compare.
    """
    if arch.startswith(PREFIX):
        outside = TimmConfig.load(arch)
        if verify:
            raise StudyError(
                f"{arch} is counted by fvcore on the built model itself: there is no other count "
                "to compare; leave --verify out"
            )
        report = _of_timm(outside, image_size, convention)
        return report | ({"latency": _measure(outside, image_size)} if latency else {})
    config = load_config(arch)
    counted = cost(config, image_size=image_size, convention=convention)
    report = {
        "arch": arch,
        "fingerprint": config.fingerprint(),
        "image_size": image_size,
        "convention": convention,
        "params": counted.params,
        "flops": counted.flops,
        "stages": _rows(counted.by_stage),
        "components": _rows(counted.by_component),
        "sequences": sequences(config, image_size, convention),
    }
    if verify:
        report["verified"] = _verify(config, counted.params, image_size)
    if latency:
        report["latency"] = _measure(config, image_size)
    return report


def _of_timm(config: TimmConfig, image_size: ImageSize, convention: str) -> dict[str, Any]:
    """Return the same of a network of timm, counted whole by fvcore."""
    counted = config.cost(image_size, convention)
    return {
        "arch": f"{PREFIX}{config.name}",
        "fingerprint": config.fingerprint(),
        "image_size": image_size,
        "convention": convention,
        "params": counted.params,
        "flops": counted.flops,
        "stages": [],
        "components": [],
        "sequences": [],
    }


def sequences(
    config: BackboneConfig, image_size: ImageSize, convention: str
) -> list[dict[str, Any]]:
    """Say for each stage how long its sequences are, and what attention would cost there.

    Returns: per stage tokens L, width D, long: whether L > 6 D, from where on the products of
        tokens cost more than the rest of an attention block; attention: FLOPs of global attention
        in the place of every mixer.
    Source: MambaOut, arXiv 2405.07992, section 3.2.
    """
    grid, rows = config.stem.grid(sides(image_size)), []
    for i, stage in enumerate(config.stages):
        grid = grid if stage.downsample is None else stage.downsample.grid(grid)
        tokens = grid[0] * grid[1] + config.class_tokens
        tally = Tally(convention, times=stage.depth)
        AttentionConfig(head_dim=1).cost(tally, stage.width, grid, config.class_tokens)
        rows.append(
            {
                "name": f"stages.{i}",
                "tokens": tokens,
                "width": stage.width,
                "long": tokens > 6 * stage.width,
                "attention": tally.stages[""][1],
            }
        )
    return rows


def presets() -> list[dict[str, Any]]:
    """Return name, parameters and FLOPs at 224 px (fvcore) of every preset."""
    rows = []
    for name in list_presets():
        counted = cost(load_config(name))
        rows.append({"preset": name, "params": counted.params, "flops": counted.flops})
    return rows


def _rows(counted: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    total = sum(flops for _, flops in counted.values()) or 1
    return [
        {"name": name, "params": params, "flops": flops, "share": flops / total}
        for name, (params, flops) in counted.items()
    ]


def _verify(config: BackboneConfig, params: int, image_size: ImageSize) -> dict[str, Any]:
    import torch

    import backbones
    from backbones.flop_handles import count_flops

    with torch.device("meta"):  # counts need shapes: no weights are drawn
        shapes = backbones.create(config)
    model = shapes.to_empty(device="cpu").eval()
    built = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        traced = int(count_flops(model, image_size))
    expected = cost(config, image_size=image_size).flops
    for what, found, stated in (("parameters", built, params), ("fvcore FLOPs", traced, expected)):
        if found != stated:
            raise StudyError(
                f"the built model has {found} {what}, the analytic count is {stated}; "
                "report this with the config"
            )
    return {"params": built, "fvcore_flops": traced}


def _measure(config: BackboneConfig | TimmConfig, image_size: ImageSize) -> dict[str, Any]:
    import torch

    import backbones
    from kernels import resolve_backend

    device = "cuda" if torch.cuda.is_available() else "cpu"
    backend = None
    if isinstance(config, TimmConfig):
        model = config.build(image_size=image_size)
    else:
        model = backbones.create(config)
        backend = resolve_backend(torch.device(device), torch.float32)
    model = model.eval().to(device)
    channels = getattr(model, "in_chans", 3)  # of some of timm
    batch = torch.randn(LATENCY_BATCH, channels, *sides(image_size), device=device)
    seconds = []
    with torch.no_grad():
        for _ in range(LATENCY_REPEATS + 1):
            begin = time.perf_counter()
            model(batch)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
    return {
        "device": device,
        "backend": backend,
        "batch": LATENCY_BATCH,
        "images_per_s": LATENCY_BATCH / median(seconds[1:]),  # the first run compiles
    }


def profile_view(report: dict[str, Any]) -> RenderableType:
    """Render `profile`."""
    unit = "FLOPs" if report["convention"] == "fvcore" else "MACs"
    head = Text.assemble(
        (report["arch"], "bold"),
        f"  {mega(report['params'])} parameters ({report['params']:,}), ",
        f"{giga(report['flops'])} {unit} ({report['flops']:,}; {report['convention']}) ",
        f"at {shown(report['image_size'])} px",
    )
    parts: list[RenderableType] = [head, Text(f"fingerprint {report['fingerprint']}", "dim")]
    for key in ("stages", "components"):
        rows = [
            (r["name"], mega(r["params"]), giga(r["flops"]), percent(r["share"], 1))
            for r in report[key]
        ]
        columns = (key[:-1], "params", unit, "share")
        if rows:
            parts += [Text(), table(columns, rows, numeric=f"params {unit} share")]
    long = [
        (r["name"], r["tokens"], r["width"], "yes" if r["long"] else "no", giga(r["attention"]))
        for r in report["sequences"]
    ]
    headings = ("stage", "L", "D", "L>6D", "attention")
    if long:
        parts += [Text(), table(headings, long, numeric="L D attention")]
    if "verified" in report:
        counts = report["verified"]
        parts.append(
            Text(
                f"\nbuilt model: {counts['params']:,} parameters, fvcore counts "
                f"{counts['fvcore_flops']:,} FLOPs: both equal the analytic count"
            )
        )
    if "latency" in report:
        speed = report["latency"]
        where = ", ".join(filter(None, (speed["device"], speed["backend"])))
        rate = f"{speed['images_per_s']:.1f} images/s"
        parts.append(Text(f"\ninference {rate} ({where}, batch {speed['batch']})"))
    return Group(*parts)


def presets_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Render `presets`."""
    return table(
        ("preset", "params", "FLOPs"),
        [(r["preset"], mega(r["params"]), giga(r["flops"])) for r in rows],
        numeric="params FLOPs",
    )
