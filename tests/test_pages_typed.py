"""What README and docs/ say to type, typed: long runs reduced, in one folder that all pages share.

A search trains two candidates and the published designs, each on a few tiny images, in this process
whatever it says of workers. What cannot be run here says why in a comment before its block, and
tests/test_pages.py checks that it would parse.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from pages import PAGES, ROOT, blocks

from nas.commands.main import main
from nas.study import recipe as recipes

pytestmark = [pytest.mark.docs, pytest.mark.timeout(1500)]

TINY = "schema: 1\ntrain_size: 64\nval_size: 64\nimage_size: 32\nflops_ratio: 2.0e-5\nepochs: 1\n"
# What is trained in full in the place of a published design.
SMALL = """
schema: 1
stem: {kind: overlap, norm: layernorm}
blocks: {g: {mixer: gated_conv}}
stages:
- {width: 16, depth: 1, pattern: g}
- {width: 32, depth: 1, pattern: g, downsample: conv3x3}
"""
LAST_TRIAL = 5  # four published designs and two candidates
NIGHT = "search --space quadtree --budget 4.5GFLOPs --study night".split()
# A study for `db` to rename and delete, and the words that stand for it.
SPARE = "search --space mambaout --budget 4.5GFLOPs --study spare --warm-start none".split()
# One that has candidates enough to be asked about.
MANY = (
    "search --space mambaout --budget 4.5GFLOPs --study many --warm-start none --trials 8 "
    "--recipe tiny.yaml --confirm none"
).split()
PLACEHOLDERS = {"STUDY": "spare", "NAME": "renamed"}
# Options -> what takes their place; None leaves them out.
OF_SEARCH = {"--trials": "2", "--workers": None, "--gpus-per-trial": None, "--ray-address": None}
TYPED = [p for p in PAGES if p.name != "CONTRIBUTING.md"]  # whose exercises other tests carry out


def option(arguments, name, value):
    """Put a value in the place of an option's, or leave the option out."""
    if name in arguments:
        place = arguments.index(name) + 1
        arguments[place - 1 : place + 1] = [] if value is None else [name, value]


def reduced(arguments):
    """The same command, with less to train."""
    given = " ".join(arguments).replace("...", "--space quadtree --budget 4.5GFLOPs")
    given = given.replace("/data/", "data/")
    made = given.split() if "{" not in given else list(arguments)
    if made[0] == "search":
        for name, value in OF_SEARCH.items():
            option(made, name, value)
        made += [] if "--trials" in made else ["--trials", "2"]
        tiny = "tiny_dense.yaml" if "relations" in made else "tiny.yaml"
        made += [] if "--recipe" in made else ["--recipe", tiny]
        if "--confirm" not in made:
            made += ["--confirm", "none"]
        elif made[made.index("--confirm") + 1] != "none":
            option(made, "--confirm", "2x2")
    if made[0] == "db":
        made = [PLACEHOLDERS.get(word, word) for word in made]
        made = ["db", "delete", "renamed", "--yes"] if made[1] == "delete" else made
    if made[0] == "ablate":
        made += ["--seeds", "2" if "--table" in made else "3", "--no-controls", "--recipe"]
        made += ["tiny.yaml"] if "relations" not in made else ["tiny_dense.yaml"]
        made += [] if {"--levels", "--table"} & set(made) else ["--levels", "cross;raster"]
    if made[0] in ("fidelity", "analyze"):
        made[1] = "many"
    if made[0] == "fidelity":
        option(made, "--designs", "5")
        option(made, "--times", "2")
    if made[0] in ("train", "evaluate"):
        made = ["small.yaml" if word == "mambaout_femto" else word for word in made]
    if made[0] == "evaluate":
        option(made, "--sizes", "32")
    if made[0] == "resume":
        option(made, "--trials", "3")
    if made[0] == "confirm":
        option(made, "--confirm", "2x2")
    if made[0] in ("show", "export") and made[-1] != "pareto" and "--trial" in made:
        if made[made.index("--trial") + 1].isdigit():
            option(made, "--trial", str(LAST_TRIAL))
    if made[0] == "train":
        made += "--epochs 1 --image-size 32 --batch-size 256 --plain".split()
    if made[0] == "run-trial":
        made[2] = str(LAST_TRIAL)
    return made


def exported(name):
    """The command that makes a file which an earlier search would have exported."""
    return ["export", "night", "--trial", str(LAST_TRIAL), "--out", name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where everything is typed: a tiny recipe, a folder of photographs, and a study `night`."""
    from PIL import Image

    place = tmp_path_factory.mktemp("typed")
    (place / "tiny.yaml").write_text(TINY)
    (place / "small.yaml").write_text(SMALL)
    (place / "tiny_dense.yaml").write_text(f"{TINY}task: dense\n")
    space = next(b for b in blocks(ROOT / "docs" / "spaces.md") if b.language == "yaml")
    (place / "my_space.yaml").write_text(space.text)
    own = next(b for b in blocks(ROOT / "docs" / "train.md") if b.language == "yaml")
    (place / "own.yaml").write_text(own.text)
    for block in blocks(ROOT / "docs" / "ten_spaces.md"):
        if block.language == "yaml":
            (place / f"{yaml.safe_load(block.text)['name']}.yaml").write_text(block.text)
    for number in range(256):
        image = place / "data" / "flowers" / ("rose", "tulip")[number % 2] / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number, 90, 255 - number)).save(image)
    return place


@pytest.fixture(scope="module")
def done():
    """Commands that were typed before: none is typed twice."""
    return set()


@pytest.fixture
def type_in(folder, done, monkeypatch, capsys):
    """Type a command; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["cli.py"])

    def call(arguments):
        if tuple(arguments) in done:
            return 0, "", ""
        if arguments[0] == "dashboard":
            return dashboard(arguments)
        if "many" in arguments and arguments != MANY:
            call(MANY)
        # Files that an earlier search would have exported.
        for word in arguments if arguments[0] != "export" else ():
            if word.startswith("runs/exports/") and not (folder / word).exists():
                call(exported(word))
        sys.argv[1:] = arguments
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        done.add(tuple(arguments))
        return code, *capsys.readouterr()

    for study in (NIGHT, SPARE):
        call(reduced(study))
    return call


def dashboard(arguments):
    """Serve until the first page has been read."""
    command = [sys.executable, str(ROOT / "cli.py"), *arguments, "--port", "0"]
    path = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | path
    ) as served:
        said = served.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/\S+", said)
        if found is None:
            return served.wait(), said, served.stderr.read()
        page = urllib.request.urlopen(found[0]).read().decode()
        served.terminate()
    return int("Optuna Dashboard" not in page), page, ""


def is_python(block):
    plain = not block.language and re.match(r"(import|from) \w", block.text)
    return block.language == "python" or bool(plain)


@pytest.mark.parametrize(
    "page",
    [p for p in TYPED if any(b.commands or is_python(b) for b in blocks(p))],
    ids=lambda page: page.name,
)
def test_a_page_is_typed_from_top_to_bottom(page, type_in, monkeypatch):
    tiny, names = recipes.Recipe.from_yaml(TINY), {}
    for block in blocks(page):
        if block.mark == "not run":
            continue
        if is_python(block):
            made = re.findall(r'"(runs/exports/[^"]+)"', block.text)
            assert all(type_in(exported(name))[0] == 0 for name in made)
            with monkeypatch.context() as patched:
                patched.setattr(recipes, "default_recipe", lambda device: tiny)
                exec(compile(block.text, block.name, "exec"), names)
        for arguments in block.commands:
            code, out, err = type_in(reduced(arguments))
            where = f"{block.name}: {' '.join(arguments)}\n{out[-2000:]}\n{err[-2000:]}"
            if block.mark == "fails":
                assert code == 2 and block.why in err, where
            else:
                assert code == 0, where


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", place]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert built.returncode == 0, built.stdout + built.stderr
    return place


def test_site_fetches_nothing_and_describes_its_pictures(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text()
        fetched = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="(https?:[^"]+)"', text)
        fetched += re.findall(r'<link[^>]*\shref="(https?:[^"]+)"', text)
        assert fetched == [], page.name
        assert all(re.findall(r"<img [^>]*alt=\"([^\"]*)\"", text)), page.name


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_site_opens_in_a_browser(site, width, scheme):
    driver = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        pytest.skip("no chromium is installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    said = []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: said.append(r.url) if "//127.0.0.1:" not in r.url else None)
        for name in ("index", "tutorial", "faq", "gallery/orders", "reference/cli"):
            page.goto(f"http://127.0.0.1:{server.server_port}/{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            seen = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
            assert all(seen), name
        ink = page.evaluate("getComputedStyle(document.body).color")
        browser.close()
    server.shutdown()
    assert said == []
    assert (ink == "rgba(0, 0, 0, 0.87)") == (scheme == "light")
