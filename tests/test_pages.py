"""What the pages say to type is right: commands parse, files and pages are there."""

import json
import re

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator
from pages import PAGES, ROOT, blocks

from nas.commands.main import app
from nas.report.schemas import SORTS, schema_text

BLOCKS = [block for page in PAGES for block in blocks(page)]
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
}
MADE = {"index.md", "extend.md", "changelog.md"}  # and gallery/, reference/: by docs/generate.py


def settings():
    """mkdocs.yml; the tags of its extensions are not looked at."""
    return yaml.load((ROOT / "mkdocs.yml").read_text(), yaml.BaseLoader)


def pages_of(nav):
    for entry in nav:
        for target in entry.values():
            yield from pages_of(target) if isinstance(target, list) else [target]


def test_every_page_is_in_the_navigation():
    named = list(pages_of(settings()["nav"]))
    written = {str(p.relative_to(ROOT / "docs")) for p in PAGES if ROOT / "docs" in p.parents}
    missing = sorted(written - set(named))
    assert not missing, (
        f"{', '.join(missing)}: no way leads there; add a line to `nav` in mkdocs.yml, and a link "
        "to the last paragraph of README.md"
    )
    assert len(named) == len(set(named))
    gone = [n for n in named if n not in written | MADE and "/" not in n]
    assert gone == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.partition("#")[0]
        if not path or path.startswith(("gallery/", "reference/")):
            continue  # made by docs/generate.py, and checked by mkdocs build --strict
        assert not path.startswith("http"), f"{page.name}: {target} leads out of the site"
        assert (page.parent / path).is_file(), f"{page.name}: {target}"


def test_pictures_are_small_and_described():
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert all(picture.stat().st_size < 150_000 for picture in pictures)
    shown = [m for p in PAGES for m in re.findall(r"!\[(.*?)\]\((.*?)\)", p.read_text(), re.S)]
    assert all(len(alternative) > 40 for alternative, _ in shown)
    assert {name.split("/")[-1] for _, name in shown} >= {p.name for p in pictures}


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.commands], ids=lambda b: b.name)
def test_commands_of_a_block_parse(block):
    group = typer.main.get_command(app)
    for arguments in block.commands:
        given = [a for a in arguments if a != "..."]
        needed = ["--space", "x", "--budget", "1GFLOPs"] if "..." in arguments else []
        outer, rest = group, [*given, *needed]
        context = None
        while hasattr(outer, "get_command"):
            context = outer.make_context(outer.name or "scannas", rest, parent=context)
            command = outer.get_command(context, rest[0])
            assert command is not None, f"{block.name}: no command {rest[0]!r}"
            outer, rest = command, rest[1:]
        outer.make_context(outer.name, rest, parent=context)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.others], ids=lambda b: b.name)
def test_other_lines_of_a_block_are_of_this_project(block):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    for line in block.others:
        if found := re.match(r"make (\w+)", line):
            assert found[1] in targets, line
            continue
        assert block.mark == "not run", f"{block.name}: {line!r} is not run; say why in a comment"
        for script in re.findall(r"\S+\.py\b", line):
            assert script == "cli.py" or (ROOT / script).is_file(), line
        for group in re.findall(r"\[([a-z,]+)\]", line):
            assert set(group.split(",")) <= set(extras), line


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "yaml"], ids=lambda block: block.name
)
def test_examples_of_files_fit_a_schema(block):
    data = json.loads(json.dumps(yaml.safe_load(block.text)))
    valid = [Draft202012Validator(json.loads(schema_text(sort))).is_valid(data) for sort in SORTS]
    assert any(valid) or block.mark


def test_every_reason_says_something():
    assert all(len(block.why) > 10 for block in BLOCKS if block.mark)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_a_page_names_exist(page):
    """What a page calls a proof is one."""
    text = page.read_text()
    for path in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (ROOT / path).exists(), f"{page.name}: {path}"
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named <= TESTS, f"{page.name} names tests that there are not"
