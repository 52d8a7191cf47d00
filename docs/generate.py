"""Pages of the site that are made from the code: gallery, reference, README and CONTRIBUTING.

A hook of MkDocs. What is described in one place is shown here from that place, and pictures are
drawn by `draw` whenever the site is built.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from backbones import list_presets, load_config
from backbones.registry import ORDERS
from nas.report.drawings import architectures, orders, spaces
from nas.report.drawings.subjects import draw, read_order
from nas.report.schemas import SORTS, Sort, schema_text
from search_spaces import SearchSpace, list_spaces

ROOT = Path(__file__).resolve().parents[1]
# Orders that need to be told which routes; the others are drawn as their kind.
TOLD = {
    "window": "{kind: window, routes: [h, h_flip, w2, w2_flip]}",
    "routes": "{kind: routes, routes: [h, t_snake, w4, 'random:0']}",
}
GRID = (8, 8)
# Files of the repository that are pages of the site, as links write them.
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "extend.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""

    def add(path: str, content: str | bytes) -> None:
        files.append(File.generated(config, path, content=content))

    for name, page in PAGES.items():
        add(page, _page((ROOT / name).read_text(encoding="utf-8")))
    add("reference/cli.md", command_line())
    for sort in SORTS:
        add(f"reference/{sort}.md", fields_page(sort))
        add(f"reference/{sort}.schema.json", schema_text(sort))
    for path, content in gallery().items():
        add(f"gallery/{path}", content)
    return files


def _page(text: str) -> str:
    """Return a file of the repository with its links as they are in the site."""
    text = text.replace("](docs/", "](").replace('src="docs/', 'src="')
    for name, page in PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text


def command_line() -> str:
    """Return the reference of the command line, as typer writes it."""
    from typer.cli import app
    from typer.testing import CliRunner

    asked = ["nas.commands.main", "utils", "docs", "--name", "scannas", "--title", "Command line"]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    head = "In a checkout `scannas` is `python cli.py`.\n\n**Usage**"
    return done.output.replace("**Usage**", head, 1)


# --- files that people write -------------------------------------------------------------------

_TITLES: dict[Sort, str] = {
    "space": "Space files: what may vary",
    "config": "Config files: what a network is",
    "recipe": "Recipe files: how a candidate is trained",
    "training": "Training recipe files: how a found design is trained in full",
}
_GUIDES = {
    "space": "spaces.md",
    "config": "spaces.md",
    "recipe": "proxies.md",
    "training": "train.md",
}


def fields_page(sort: Sort) -> str:
    """Return a reference of all fields of a sort of file, made from its JSON Schema."""
    schema = json.loads(schema_text(sort))
    parts = {sort: schema, **schema["$defs"]}
    if sort == "space":  # an inline base is described on the page of configs
        config = json.loads(schema_text("config"))
        parts = {n: p for n, p in parts.items() if n not in {"BackboneConfig", *config["$defs"]}}
    lines = [
        f"# {_TITLES[sort]}",
        "",
        f"Every field, made from the schema; [the guide](../{_GUIDES[sort]}) explains them. "
        f"Editors that know YAML complete and check a file that opens with "
        f"`# yaml-language-server: $schema=PATH`, PATH being [this schema]({sort}.schema.json), "
        f"or what `scannas schema {sort}` prints.",
        "",
    ]
    for name, part in parts.items():
        if not part.get("properties"):
            continue
        lines += [f"## {_heading(name, part)}" + f" {{ #{name.lower()} }}", ""]
        lines += [_text(part.get("description", "")), ""]
        lines += ["| field | is | default | meaning |", "| --- | --- | --- | --- |"]
        needed = part.get("required", ())
        for field, facts in part["properties"].items():
            default = "needed" if field in needed else f"`{_shown(facts.get('default'))}`"
            kind = _kind(facts, set(parts))
            lines.append(f"| `{field}` | {kind} | {default} | {_text(_says(facts))} |")
        lines.append("")
    return "\n".join(lines)


def _heading(name: str, part: dict[str, Any]) -> str:
    kind = part["properties"].get("kind", {}).get("const")
    if kind is not None:
        return f"kind: {kind}"
    words = re.sub(r"(Config|Entry|File)$", "", name)
    return "The file" if name in SORTS else words


def _says(facts: dict[str, Any]) -> str:
    return str(facts.get("description", ""))


def _text(said: str) -> str:
    said = said.replace("|", "\\|")
    outside = re.compile(r"(`[^`]*`)|[<*_]")
    return outside.sub(lambda m: m[1] or {"<": "&lt;"}.get(m[0], "\\" + m[0]), said)


def _shown(default: Any) -> str:
    if isinstance(default, dict):
        default = default.get("kind", "...")
    return json.dumps(default).strip(chr(34)).replace("|", "\\|") or "empty"


def _kind(facts: dict[str, Any], known: set[str]) -> str:
    """Return what may stand for a field, in a few words with links."""
    if "$ref" in facts:
        name = facts["$ref"].rpartition("/")[2]
        label = re.sub(r"(Config|Entry)$", "", name)
        page = "" if name in known else "config.md"
        anchor = "config" if name == "BackboneConfig" else name.lower()
        if name == "JsonValue":
            return "any value"
        return f"[{label}]({page}#{anchor})"
    if "anyOf" in facts:
        return ", ".join(dict.fromkeys(_kind(each, known) for each in facts["anyOf"]))
    if "enum" in facts or "const" in facts:
        values = facts.get("enum", [facts.get("const")])
        return ", ".join(f"`{_shown(value)}`" for value in values)
    if facts.get("type") == "array":
        inner = _kind(facts.get("items", {}), known) if "items" in facts else "any value"
        return f"list of {inner}"
    if facts.get("type") == "object":
        inside = [facts.get("additionalProperties"), *facts.get("patternProperties", {}).values()]
        inner = next((_kind(value, known) for value in inside if isinstance(value, dict)), "any")
        return f"mapping to {inner}"
    return str(facts.get("type", "any value")) + _bounds(facts)


def _bounds(facts: dict[str, Any]) -> str:
    names = {"exclusiveMinimum": "&gt;", "minimum": "≥", "exclusiveMaximum": "&lt;", "maximum": "≤"}
    said = [f"{sign} {facts[key]:g}" for key, sign in names.items() if key in facts]
    return f" {', '.join(said)}" if said else ""


# --- gallery -----------------------------------------------------------------------------------


def gallery() -> dict[str, str | bytes]:
    """Return pages of pictures, and the pictures, each with the command that draws it."""
    made: dict[str, str | bytes] = {}
    with TemporaryDirectory() as folder:

        def picture(name: str, what: str, said: str, options: str = "") -> str:
            grid = GRID if options else (14, 14)
            made[f"{name}.svg"] = draw(what, Path(folder) / f"{name}.svg", grid=grid).read_bytes()
            quoted = f"'{what}'" if " " in what else what
            return f"![{_plain(said)}]({name}.svg)\n\n    scannas draw {quoted}{options}\n"

        made["orders.md"] = "\n".join([_ORDERS, *(_order(kind, picture) for kind in ORDERS.places)])
        made["architectures.md"] = "\n".join(
            [_ARCHITECTURES, *(_architecture(name, picture) for name in list_presets())]
        )
        made["spaces.md"] = "\n".join([_SPACES, *(_space(name, picture) for name in list_spaces())])
    return made


_ORDERS = """# Scan orders

The routes of each order over a map of 8 x 8 tokens, dark first; the ring is where a route begins,
the square where it ends. Quadtrees are learned, and drawn for an image whose detail is in the
upper right. An order of your own is one class: see [Add your own](../extend.md#add-a-scan-order).
"""
_ARCHITECTURES = """# Architectures

The published backbones. A row is a stage, a box a block with the routes of its scan; bars are each
stage's share of FLOPs and parameters at 224 px.
"""
_SPACES = """# Search spaces

Each shipped space as a tree of choices. [Your own space](../spaces.md) says how one is written.
"""


def _order(kind: str, picture: Any) -> str:
    what = TOLD.get(kind, f"order:{kind}")
    order = read_order(TOLD.get(kind, kind))
    said = orders.order_alternative(order, orders.visited(order, GRID))
    about = " ".join((type(order).__doc__ or "").split("\n\n")[0].split())
    return f"## {kind}\n\n{_text(about)}\n\n{picture(kind, what, said, ' --grid 8x8')}"


def _architecture(name: str, picture: Any) -> str:
    said = architectures.architecture_alternative(load_config(name), name)
    return f"## {name}\n\n{picture(name, name, said)}"


def _space(name: str, picture: Any) -> str:
    space = SearchSpace.load(name)
    drawn = picture(f"space-{name}", f"space:{name}", spaces.space_alternative(space))
    return f"## {name}\n\n{_text(space.description)}\n\n{drawn}"


def _plain(said: str) -> str:
    return re.sub(r"[\[\]]", "", " ".join(said.split()))
