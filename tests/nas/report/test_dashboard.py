"""The dashboard shows our studies with notes and pictures, on loopback, and changes nothing."""

import json
import queue
import shutil
import socket
import sys
import threading
import urllib.error
import urllib.request

import pytest
from doubles import CONDITIONAL, FakeProxy, new_study, settings

from nas.driver.running import run
from nas.errors import StudyError
from nas.executors.inline import InlineExecutor
from nas.report.dashboard import shown
from nas.report.dashboard.serving import serve
from nas.store import queries

HOSTILE = "<img src=x onerror=window.hacked=1>"


def unlucky():
    """One design fails wherever it is tried."""
    chosen = []

    def raises(call, fingerprint, recipe):
        if call == 3:
            chosen.append(fingerprint)
        return ArithmeticError(f"{HOSTILE} *no* loss") if fingerprint in chosen else None

    return raises


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A database of a study of six candidates and a baseline, one of which failed."""
    url = f"sqlite:///{tmp_path_factory.mktemp('dashboard')}/nas.db"
    space = CONDITIONAL.replace("raster: raster", f"'{HOSTILE}': raster")
    study = new_study(url, settings(space, trials=6, warm_start="presets"), name="night")
    run(study, InlineExecutor(FakeProxy(raises=unlucky())))
    study.close()
    return url


@pytest.fixture(scope="module")
def address(url):
    """Where the dashboard is served."""
    answers = queue.Queue()
    threading.Thread(
        target=serve, args=("night", url, 0), kwargs={"ready": answers.put}, daemon=True
    ).start()
    return answers.get(timeout=60)


def get(address, path, **request):
    host = address.split("/dashboard")[0]
    with urllib.request.urlopen(urllib.request.Request(host + path, **request)) as answer:
        return answer.read()


def detail(address):
    return json.loads(get(address, "/api/studies/1"))


def test_only_loopback_listens(address):
    assert address.startswith("http://127.0.0.1:")
    port = int(address.split(":")[2].split("/")[0])
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    for host in others - {"127.0.0.1", "::1"}:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as there:
            there.settimeout(2)
            assert there.connect_ex((host, port)) != 0


def test_each_trial_has_a_note_and_pictures(address, url):
    found = detail(address)
    assert found["objective_names"] == ["top1"]
    assert "Space conditional (version 1), budget 80-100MFLOPs" in found["note"]["body"]
    ours = {t["trial"]: t for t in queries.trials("night", url)}
    assert [t["number"] for t in found["trials"]] == sorted(ours)
    for trial in found["trials"]:
        said, row = trial["note"]["body"], ours[trial["number"]]
        assert f"run-trial night {trial['number']}" in said
        assert (row["label"] or row["kind"]).replace("_", r"\_") in said
        names = [a["filename"] for a in trial["artifacts"]]
        assert names[0] == "architecture.svg"
        scans = row["label"] is None and "s" in row["choices"]["mixer"]
        assert [n.split("-")[:2] for n in names[1:]] == ([["order", "1"]] if scans else [])


def test_pictures_are_drawn_when_asked_for(address):
    trial = detail(address)["trials"][-1]
    for artifact in trial["artifacts"]:
        picture = get(address, f"/artifacts/1/{trial['trial_id']}/{artifact['artifact_id']}")
        assert picture.startswith(b"<?xml") and b"<svg" in picture


def test_nothing_can_be_changed(address, url):
    before = queries.studies(url)
    note = json.dumps({"body": "mine", "version": 2}).encode()
    asked = [
        ("/api/studies/1", "DELETE", None),
        ("/api/studies/1/note", "PUT", note),
        ("/api/studies/1/2/note", "PUT", note),
        ("/api/studies", "POST", b'{"study_name": "x", "directions": ["maximize"]}'),
    ]
    for path, method, data in asked:
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(
                address,
                path,
                method=method,
                data=data,
                headers={"Content-Type": "application/json"},
            )
        assert refused.value.code >= 400
    assert queries.studies(url) == before
    assert "mine" not in detail(address)["note"]["body"]


def test_pages_of_a_large_study_stay_small(url, monkeypatch):
    monkeypatch.setattr(shown, "MOST_NOTES", 3)
    known = shown.Shown("night", url)
    trials = queries.trials("night", url)
    best = max(
        (t for t in trials if t["label"] is None and not t["error"]), key=lambda t: t["score"]
    )
    assert set(known.notes) == {
        best["trial"],
        *(t["trial"] for t in trials if t["label"] or t["error"]),
    }
    assert all(known.pictures(t["trial"]) for t in trials)


def test_mistakes_are_said(url):
    with pytest.raises(StudyError, match=r"no study 'nigth'.*did you mean 'night'"):
        serve("nigth", url, 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StudyError, match=rf"port {port}: .*in use; choose another --port"):
            serve(None, url, port)


def test_missing_package_is_named(url, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard._app", None)
    with pytest.raises(StudyError, match=r"pip install 'scannas\[dashboard\]'"):
        serve(None, url, 0)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1300, 390])
def test_dashboard_shows_figures_notes_and_pictures(address, width):
    driver = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        pytest.skip("no chromium is installed")
    said, asked = [], []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: asked.append(r.url))
        page.goto(address)
        page.wait_for_selector(".scatterlayer .point", state="attached")
        failed = next(t for t in detail(address)["trials"] if t["state"] == "Fail")
        page.goto(f"{address}/trials?numbers={failed['number']}")
        page.get_by_text(HOSTILE, exact=False).first.wait_for()
        page.wait_for_function(
            "[...document.images].length && [...document.images].every(i => i.naturalWidth > 100)"
        )
        assert page.evaluate("window.hacked") is None
        browser.close()
    assert said == []
    assert all(a.startswith(("http://127.0.0.1:", "data:", "blob:")) for a in asked)
