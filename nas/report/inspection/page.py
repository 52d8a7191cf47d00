"""An inspection as one self-contained page, and its pictures as files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from backbones import load_config
from backbones.config import BackboneConfig
from nas.report.drawings.style import Picture, put
from nas.report.inspection.figures import partitions_of, reach_picture, scan_picture
from nas.report.inspection.reach import reach
from nas.report.inspection.scans import Scan, record
from nas.report.inspection.subjects import as_input, sample_images, trained, untrained
from nas.report.text import INSTALLED, giga, mega, percent
from nas.training.environment import version_of


@dataclass(frozen=True)
class Inspected:
    """What was found of a network.

    areas: rows of its receptive fields, by what they are of. scans: one of each stage.
    """

    name: str
    said: str
    command: str
    reach: Picture
    areas: list[tuple[str, ...]]
    heads: tuple[str, ...]
    scans: list[Picture]
    partitions: Picture | None
    learned: bool

    @property
    def pictures(self) -> list[Picture]:
        """All pictures."""
        return [self.reach, *self.scans, *([self.partitions] if self.partitions else [])]


def inspect(
    arch: str,
    *,
    weights: Path | None = None,
    images: Sequence[Path] = (),
    image_size: int = 224,
    seed: int = 0,
) -> Inspected:
    """Look at what a network looks at, before training and, with weights, after.

    weights: of this project or a released checkpoint. images: files or folders; by default
        scikit-learn's photographs. seed: of the weights before training.
    Raises: ConfigError for an unknown architecture, or weights that cannot be read;
        StudyError for weights that do not fit, and images that cannot be read.
    """
    config = load_config(arch)
    names, photos = sample_images(images, image_size)
    seen = as_input(photos, config.in_chans)
    networks = {"before training": untrained(config, seed)}
    if weights is not None:
        networks["after training"] = trained(config, weights)
    fields = {name: reach(model, seen) for name, model in networks.items()}
    scans = record(list(networks.values())[-1], seen)
    words = [INSTALLED, "inspect", arch, "--image-size", str(image_size), "--seed", str(seed)]
    words += [] if weights is None else ["--weights", str(weights)]
    for path in images:
        words += ["--images", str(path)]
    shares = list(next(iter(fields.values())).areas)
    return Inspected(
        name=Path(arch).stem,
        said=_said(config, image_size, list(networks), len(names)),
        command=shlex.join(words),
        reach=reach_picture(fields),
        areas=[
            (name, *(percent(field.areas[share], 1) for share in shares))
            for name, field in fields.items()
        ],
        heads=("network", *(f"{percent(share, 0)} of the contribution" for share in shares)),
        scans=[_scan(scan, names, photos) for scan in _first_of_each_stage(scans)],
        partitions=partitions_of(scans, names, photos),
        learned=weights is not None,
    )


def _said(config: BackboneConfig, image_size: int, networks: list[str], images: int) -> str:
    from backbones import cost

    counted = cost(config, image_size=image_size)
    return (
        f"{mega(counted.params)} parameters, {giga(counted.flops)} FLOPs at {image_size} px; "
        f"{' and '.join(networks)}, over {images} images."
    )


def _scan(scan: Scan, names: list[str], photos: Tensor) -> Picture:
    return scan_picture(scan, names, photos, (scan.grid[0] // 2, scan.grid[1] // 2))


def _first_of_each_stage(scans: list[Scan]) -> list[Scan]:
    stages: dict[str, Scan] = {}
    for scan in scans:
        stages.setdefault(scan.block.partition(",")[0], scan)
    return list(stages.values())


def write_inspection(found: Inspected, out: Path, png: Path | None) -> list[Path]:
    """Write the page, and to the folder `png` its pictures; return the files.

    Raises: StudyError for a place that cannot be written.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    texts = resources.files("nas.report")
    template = texts.joinpath("inspection", "page.html.jinja").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        found=found,
        style=Markup(texts.joinpath("html", "page.css").read_text(encoding="utf-8")),
        version=version_of("scannas") or "from a checkout",
    )
    put(page.encode(), out)
    if png is None:
        return [out]
    return [out, *(picture.write(png) for picture in found.pictures)]
