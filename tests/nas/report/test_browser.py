"""A report in a real browser: figures appear, hover and filters work, nothing is asked for."""

import re
import shutil
from dataclasses import replace

import pytest
from doubles import CONDITIONAL, FakeProxy, new_study, settings

from nas.driver.running import run
from nas.evidence.reliability import load_measurements
from nas.executors.inline import InlineExecutor
from nas.report.html.facts import gather
from nas.report.html.page import render

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
FIGURES = ("plot-designs", "plot-course", "plot-outcomes")
WIDTHS = {"desktop": (1300, 900), "phone": (390, 800)}
POINTS = ".scatterlayer .point"


@pytest.fixture(scope="module")
def chromium():
    driver = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of eight candidates and a baseline, one of which learned nothing, with odd names."""
    folder = tmp_path_factory.mktemp("report")
    url = f"sqlite:///{folder}/nas.db"
    space = CONDITIONAL.replace("raster: raster", f"'{HOSTILE}': raster")
    study = new_study(url, settings(space, trials=8, warm_start="presets"))
    run(study, InlineExecutor(FakeProxy()))
    study.close()
    facts = replace(gather("s", url), reliability=load_measurements().measured[0])
    facts.trials[2]["learned"] = False
    facts.trials[0]["label"] = HOSTILE
    (folder / "page.html").write_text(render(facts, "x"))
    return folder / "page.html"


@pytest.fixture(params=list(WIDTHS))
def page(chromium, report, request):
    """The report, open, all figures seen; fails on an error or a request."""
    width, height = WIDTHS[request.param]
    page = chromium.new_page(viewport={"width": width, "height": height})
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: said.append(r.url) if r.url[:5] not in ("file:", "data:") else 0)
    page.goto(report.as_uri())
    for figure in FIGURES:
        page.locator(f"#{figure}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#{figure} .main-svg")
    yield page
    assert page.evaluate("window.hacked") is None
    page.close()
    assert said == []


def test_figures_fit_the_page_and_pictures_are_loaded(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    sizes = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.alt.length])")
    assert len(sizes) >= 2 and all(width > 100 and said > 30 for width, said in sizes)
    for figure in FIGURES:
        box = page.locator(f"#{figure} .main-svg").first.bounding_box()
        assert box["width"] > 250 and box["height"] > 150


def test_hover_shows_the_choices_as_text(page):
    figure = page.locator("#plot-designs")
    figure.scroll_into_view_if_needed()
    figure.locator(POINTS).first.hover(force=True)
    page.wait_for_selector("#plot-designs .hovertext")
    assert re.search(r"trial \d+.*G FLOPs.*expand: ", figure.locator(".hovertext").text_content())
    # A name with markup is shown, as it is written.
    assert HOSTILE in page.evaluate("document.getElementById('plot-designs').textContent")


def test_filters_change_the_figures_and_the_table(page):
    from playwright.sync_api import expect

    points = page.locator(f"#plot-designs {POINTS}")
    learned = points.count()
    page.locator("#learned-only").uncheck()
    expect(points).to_have_count(learned + 1)
    page.locator("#color-by").select_option("=mixer")
    legend = page.locator("#plot-designs .legendtext")
    expect(legend.filter(has_text="mutation")).to_have_count(0)
    assert {"s", "g"} & set(legend.all_text_contents())
    page.locator("#all-trials summary").click()
    rows = page.locator("#trials tbody tr")
    expect(rows).to_have_count(9)
    page.locator("#find").fill("onerror")
    expect(rows.first).to_contain_text("onerror")
    assert 0 < rows.count() < 9
    assert page.locator("#found").inner_text() == f"{rows.count()} found"


def test_figure_of_the_designs_takes_another_cost(page):
    title = "document.querySelector('#plot-designs .xtitle').textContent"
    assert page.evaluate(title).startswith("FLOPs")
    options = page.locator("#cost option").all_text_contents()
    assert options == ["FLOPs", "parameters"]  # latency was not measured
    page.locator("#cost").select_option("params")
    page.wait_for_function(f"{title}.startsWith('parameters')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_paper(page, theme):
    """Contrast of WCAG 2, level AA: 4.5 to 1."""
    page.emulate_media(color_scheme=theme)
    pairs = page.evaluate(
        """() => {
          const style = (node, key) => getComputedStyle(node)[key].match(/[\\d.]+/g).map(Number);
          const paper = style(document.body, 'backgroundColor');
          return [...document.querySelectorAll('p, li, td, th, dt, dd, a, footer, label, h2, pre')]
            .map((node) => {
              let at = node, back = style(at, 'backgroundColor');
              while (back.length > 3 && back[3] === 0) {
                at = at.parentElement;
                back = at === null ? paper : style(at, 'backgroundColor');
              }
              return [style(node, 'color').slice(0, 3), back.slice(0, 3)];
            });
        }"""
    )
    assert len(pairs) > 30
    worst = min(contrast(ink, paper) for ink, paper in pairs)
    assert worst >= 4.5


def contrast(*colors):
    light = sorted(luminance(color) for color in colors)
    return (light[1] + 0.05) / (light[0] + 0.05)


def luminance(color):
    parts = [v / 255 for v in color]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_page_follows_the_theme_of_the_reader(page):
    def ink():
        return page.evaluate(
            "getComputedStyle(document.querySelector('#plot-designs .xtitle')).fill"
        )

    light = ink()
    page.emulate_media(color_scheme="dark")
    fill = "getComputedStyle(document.querySelector('#plot-designs .xtitle')).fill"
    page.wait_for_function(f"before => {fill} !== before", arg=light)
    page.emulate_media(color_scheme="light")
