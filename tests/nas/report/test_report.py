"""A report holds all it shows, says what state a study is in, and keeps every name text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from doubles import CONDITIONAL, FakeProxy, driver, new_study, settings
from safetensors.torch import save_file

from backbones.config import BackboneConfig
from nas.commands.options import Machines
from nas.commands.search import Wanted
from nas.driver.running import run
from nas.errors import StudyError
from nas.evidence.reliability import load_measurements
from nas.evidence.verdict import Comparison, Contender, Verdict
from nas.executors.inline import InlineExecutor
from nas.report.drawings.results import effects_figure, verdict_figure
from nas.report.html.facts import best_so_far, columns, gather, search_command
from nas.report.html.page import render, write_report
from nas.report.html.pictures import figure_words, partitions, result_pictures
from nas.report.inspection.subjects import untrained
from nas.study.outcomes import NanLoss

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror=hacked=1>"
MOST_BYTES = 6_000_000


class Page(HTMLParser):
    """What a browser would make of a page: its elements, addresses, scripts and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.scripts, self.text = [], [], {}, []
        self.handlers, self.alternatives, self.open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "action", "data")]
        self.alternatives += [v for k, v in attributes if k == "alt"]
        self.handlers += [v for k, v in attributes if k.startswith("on")]
        self.open = dict(attributes).get("id", "code") if tag == "script" else None

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open is None:
            self.text.append(data)
        else:
            self.scripts[self.open] = self.scripts.get(self.open, "") + data


def study_of(url, clock, proxy, name="s", **changes):
    made = settings(CONDITIONAL, warm_start="presets", **changes)
    study = new_study(url, made, name=name, clock=clock)
    run(study, InlineExecutor(proxy))
    study.close()


@pytest.fixture
def scored(sqlite_url, clock):
    def once(number, *_):
        return NanLoss(f"loss is nan {HOSTILE}") if number == 3 else None

    study_of(sqlite_url, clock, FakeProxy(raises=once), trials=5)
    return gather("s", sqlite_url)


def test_page_holds_all_it_shows_and_the_data_are_the_studys(scored):
    page = Page(render(scored, "sqlite:///here"))
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "link" in page.tags and page.tags.count("h1") == 1
    data = json.loads(page.scripts["data"])
    assert data["columns"]["trial"] == [t["trial"] for t in scored.trials]
    assert [s is None for s in data["columns"]["score"]] == [
        t["score"] is None for t in scored.trials
    ]
    ids = {a[1:] for a in page.addresses if a.startswith("#")}
    assert ids == {
        *("asked", "designs", "course", "leaders", "winner", "proxy", "outcomes", "again"),
    }
    text = " ".join(page.text)
    assert scored.winner["fingerprint"] in text
    assert "5 of them with a score" in text
    assert "NanLoss: loss is nan </script>" in text  # as text


def test_names_that_a_user_or_a_data_set_chose_stay_text(sqlite_url, clock):
    space = CONDITIONAL.replace("raster: raster", f"'{HOSTILE}': raster").replace(
        "for tests.", f"for tests. {HOSTILE}"
    )
    recipe = settings().recipe.model_copy(update={"dataset": f"folder:/data/{HOSTILE}"})
    study = new_study(sqlite_url, settings(space, recipe=recipe, trials=6), clock=clock)
    run(
        study,
        InlineExecutor(FakeProxy(raises=lambda n, *_: ValueError(HOSTILE) if n == 2 else None)),
    )
    study.close()
    facts = gather("s", sqlite_url)
    facts.trials[0]["label"] = HOSTILE
    facts.study["space"] = HOSTILE
    facts.winner["label"] = HOSTILE
    facts.winner["choices"]["scan"] = HOSTILE
    ours = Page(render(gather("s", sqlite_url), "x"))
    page = Page(render(facts, HOSTILE))
    assert page.tags.count("script") == ours.tags.count("script") == 3
    assert page.tags.count("img") == ours.tags.count("img")
    assert page.handlers == ours.handlers
    assert HOSTILE in " ".join(page.text)
    assert json.loads(page.scripts["data"])["columns"]["label"][0] == HOSTILE


def test_empty_running_and_failed_studies_say_so(sqlite_url, clock, tmp_path):
    study = new_study(sqlite_url, settings(trials=3), clock=clock)
    facts = gather("s", sqlite_url)
    assert (facts.state, facts.winner) == ("empty", None)
    assert "No trial has begun yet" in render(facts, "x")
    one = driver(study)
    one.next()
    facts = gather("s", sqlite_url)
    assert facts.state == "running"
    assert "1 running, 0 waiting" in render(facts, "x")
    one.close()
    study.close()
    other = f"sqlite:///{tmp_path}/failed.db"
    study_of(other, clock, FakeProxy(raises=lambda *_: NanLoss("nan")), trials=2)
    facts = gather("s", other)
    assert facts.state == "failed"
    page = render(facts, "x")
    assert "No trial has a score: 3 nan" in page and "plot-designs" not in page.split("<script")[0]


def test_best_so_far_rises_and_leaves_the_baselines_out(scored):
    risen = best_so_far(scored.trials)
    scores = [score for _, score in risen]
    assert scores == sorted(set(scores)) and scores[-1] == scored.winner["score"]
    labelled = {t["trial"] for t in scored.trials if t["label"]}
    assert labelled and not labelled & {trial for trial, _ in risen}


def test_columns_give_back_every_choice_of_every_trial(scored):
    made = columns(scored)
    for place, trial in enumerate(scored.trials):
        found = {
            name: choice["options"][choice["of"][place]]
            for name, choice in made["choices"].items()
            if choice["of"][place] >= 0
        }
        shown = {k: v if isinstance(v, str) else json.dumps(v) for k, v in trial["choices"].items()}
        assert found == shown
        assert made["states"][made["state"][place]] == trial["state"]


def test_command_of_a_study_is_one_that_search_takes(scored):
    words = search_command(scored.study).split()
    assert words[:2] == ["scannas", "search"]
    flags = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
    assert flags <= set(Wanted.__dataclass_fields__) | set(Machines.__dataclass_fields__)
    assert words[words.index("--budget") + 1] == "80-100MFLOPs"


def test_five_thousand_trials_stay_below_six_megabytes(scored):
    many = [replaced(t, number) for number in range(5000) for t in [scored.trials[number % 6]]]
    page = render(replace(scored, trials=many), "x")
    assert len(page.encode()) < MOST_BYTES
    assert len(json.loads(Page(page).scripts["data"])["columns"]["flops"]) == 5000


def replaced(trial, number):
    return trial | {"trial": number, "score": (number * 0.618033) % 1, "error": None}


def test_report_is_written_with_its_single_figures(scored, sqlite_url, tmp_path):
    out, *pictures = write_report("s", sqlite_url, tmp_path / "a" / "s.html", tmp_path / "png")
    assert out.read_text().lstrip().startswith("<!doctype html>")
    names = {p.name for p in pictures}
    assert {"course.png", "score-against-flops.png", "architecture.png"} <= names
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write"):
        write_report("s", sqlite_url, tmp_path / "file" / "s.html")
    with pytest.raises(StudyError, match="'ghost'"):
        write_report("ghost", sqlite_url, tmp_path / "s.html")


def test_score_that_is_no_share_is_called_and_written_as_what_it_is(scored):
    recipe = {**scored.study["recipe"], "task": "reconstruct", "score": "skill"}
    study = {**scored.study, "recipe": recipe}
    page = Page(render(replace(scored, study=study, verdict=""), "x"))
    text = " ".join(page.text)
    assert "skill (R²)" in text and f"{scored.winner['score']:.4f} skill (R²)" in text
    assert "top-1" not in text
    metric = json.loads(page.scripts["data"])["metric"]
    assert metric == {"metric": "skill (R²)", "unit": "plain"}


def test_every_picture_is_said_in_words(scored):
    said = figure_words(scored)
    assert f"{len(scored.scored) - 1} candidates and 1 published designs" in said["flops"]
    assert f"trial {scored.winner['trial']}" in said["course"]
    assert "1 nan" in said["outcomes"]
    assert all(picture.alternative for picture in result_pictures(scored))
    alternatives = re.findall(r'<img src="[^"]*" alt="([^"]*)"', render(scored, "x"))
    assert alternatives and all(len(text) > 30 for text in alternatives)


def test_password_is_not_in_the_page(scored):
    from nas.store.urls import parse_url, shown

    hidden = shown(parse_url("postgresql+psycopg://u:hunter2@host/db?sslpassword=tunnel3"))
    page = render(scored, hidden)
    assert "hunter2" not in page and "tunnel3" not in page
    assert page.count("***") >= 2


def test_what_the_proxy_sees_is_shown_where_it_was_measured(scored):
    unmeasured = render(scored, "x")
    assert "What the proxy sees" in unmeasured and "quadtree resolutions" not in unmeasured
    page = Page(render(replace(scored, reliability=load_measurements().measured[0]), "x"))
    text = " ".join(" ".join(page.text).split())
    assert "What the proxy sees" in text and "quadtree resolutions" in text
    assert json.loads(page.scripts["data"])["noise"] == load_measurements().measured[0].noise


def test_what_longer_trainings_say_stands_with_what_the_proxy_sees(scored):
    assert "Whether longer trainings agree" not in render(scored, "x")
    said = f"tau 0.80 {HOSTILE}"
    page = Page(render(replace(scored, fidelity=[said]), "x"))
    assert said in page.text and page.tags.count("script") == 3


def test_latency_is_a_cost_where_it_was_measured(scored):
    page = Page(render(scored, "x"))
    assert scored.costs == ["flops", "params"]
    assert json.loads(page.scripts["data"])["columns"]["latency_ms"] is None
    trials = [t | {"latency_ms": 10.0 + n if n else None} for n, t in enumerate(scored.trials)]
    timed = [t for t in trials if t["latency_ms"] and t["score"] is not None]
    facts = replace(scored, trials=trials, pareto={**scored.pareto, "latency_ms": timed[:1]})
    columns = json.loads(Page(render(facts, "x")).scripts["data"])["columns"]
    assert columns["latency_ms"] == [t["latency_ms"] for t in trials]
    picture = next(p for p in result_pictures(facts) if p.name == "score-against-latency_ms")
    points = [p for line in picture.figure.axes[0].lines for p in line.get_xdata()]
    assert set(points) >= {t["latency_ms"] for t in timed} and 10.0 not in points


def test_quadtrees_of_the_best_candidate_are_drawn_over_photographs(tmp_path):
    config = {
        "schema": 1,
        "stem": {"kind": "patchify", "patch": 4},
        "blocks": {"q": {"mixer": {"kind": "ssm", "order": "quadtree"}}},
        "stages": [{"width": 16, "depth": 1, "pattern": "q"}],
    }
    trial = {"config": config, "image_size": 32, "seed": 3}
    picture = partitions(trial, None)
    assert "stage 1, block 1: china.jpg 7, flower.jpg 7" in picture.alternative
    model = untrained(BackboneConfig.model_validate(config), 4)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    assert partitions(trial, tmp_path / "w.safetensors").alternative == picture.alternative
    config["blocks"]["q"]["mixer"]["order"] = "cross"
    assert partitions(trial, None) is None


def test_effects_of_choices_are_shown_with_intervals_once_there_are_designs_enough(
    sqlite_url, clock, scored
):
    assert scored.effects is None  # four designs
    study_of(sqlite_url, clock, FakeProxy(), name="more", trials=20)
    facts = gather("more", sqlite_url)
    assert facts.effects.designs == 20
    ids = [a for a in Page(render(facts, "x")).addresses if a.startswith("#")]
    assert "#effects" in ids
    (axis,) = effects_figure(facts.effects).axes
    ticks = [label.get_text() for label in axis.get_yticklabels()]
    strongest = min(facts.effects.factors, key=lambda f: f.p_holm)
    assert ticks[0].startswith(f"{strongest.factor} (p ")
    assert ticks[1].startswith(f"{strongest.levels[0].level} (")
    drawn = [line.get_xdata() for line in axis.lines if len(line.get_xdata()) == 2][1]
    level = strongest.levels[0]
    assert list(drawn) == [100 * level.low, 100 * level.high]


def test_verdict_of_a_confirmation_is_drawn_with_its_intervals(scored):
    pair = {"estimate": 0.021, "low": 0.004, "high": 0.038, "detectable": 0.02, "within": 0.03}
    verdict = Verdict(
        unit="percent",
        split="test",
        seeds=5,
        noise=0.02,
        df=8.0,
        level=0.95,
        leader="trial 4",
        comparisons=(Comparison(design="trial 4", other=HOSTILE, word="better", **pair),),
        chosen="trial 4",
        contenders=(
            Contender(name="trial 4", role="candidate", mean=0.8, runs=5, may_be_best=True),
            Contender(name=HOSTILE, role="baseline", mean=0.78, runs=5, may_be_best=False),
        ),
    )
    page = Page(render(replace(scored, confirmed=verdict), "x"))
    assert page.tags.count("script") == 3
    assert page.tags.count("img") == Page(render(scored, "x")).tags.count("img") + 1
    said = next(text for text in page.alternatives if "+2.10 points" in text)
    assert "95 % interval +0.40 to +3.80" in said
    (axis,) = verdict_figure(verdict).axes
    ends = [line.get_xdata() for line in axis.lines][1]
    assert list(ends) == pytest.approx([0.4, 3.8])
