"""The pages in a real Chromium: nothing fetched, no error, everything drawn, and usable by keyboard, dark and small."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infertune.tuning.afterwards import compare_runs, report_again
from infertune.tuning.study.run import study
from tests.report.runs import hostile, saved, tuned
from tests.tuning.study_plans import written

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
CHARTS = ["chart-map", "chart-slices", "chart-importance", "chart-progress", "chart-energy", "chart-time"]
CONTRAST = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
  const poor = [];
  for (const e of document.body.querySelectorAll("*")) {
    if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const style = getComputedStyle(e), drawing = e.closest("svg"), a = light(parse(drawing ? style.fill : style.color));
    if (drawing && (e.closest("title, style, defs, .on-bar, .on-dark, .on-light, #chart-map .annotation") || style.fill === "none")) continue;
    const b = light(behind(drawing ? drawing.parentElement : e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), size = parseFloat(style.fontSize);
    if (ratio < (size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5)) poor.push(e.tagName + " " + e.textContent.trim().slice(0, 40) + " " + ratio.toFixed(2));
  }
  return poor;
}"""  # noqa: E501


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ledger = saved(tmp_path_factory.mktemp("runs") / "run", tuned(trials=150))
    return report_again(ledger.folder)[1]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ledger = saved(tmp_path_factory.mktemp("runs") / "run", tuned(trials=1990))
    return report_again(ledger.folder)[1]


Opened = Callable[..., "Page"]


@pytest.fixture
def opened(browser: "Browser") -> Iterator[Opened]:
    """Opens a page, and at the end insists that it fetched nothing and complained of nothing."""
    contexts, fetched, complaints = [], [], []

    def opens(path: Path, *, width: int = 1280, scheme: str = "light", charts: bool = True) -> "Page":
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True,  # type: ignore[arg-type]
            permissions=["clipboard-read", "clipboard-write"],
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: fetched.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        if charts:
            page.wait_for_selector("html[data-charts=ready]", state="attached")
        return page

    yield opens
    for context in contexts:
        context.close()
    assert len(fetched) == len(contexts) and all(url.startswith("file:") for url in fetched)
    assert complaints == []


def rows(page: "Page") -> list[list[str]]:
    return page.eval_on_selector_all("#table tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_everything_is_drawn_legible_and_inside_the_screen(opened: Opened, run: Path, width: int, scheme: str) -> None:
    page = opened(run, width=width, scheme=scheme)
    drawn = page.eval_on_selector_all(".chart[data-drawn]", "all => all.map(e => e.id)")
    assert sorted(drawn) == sorted(CHARTS)
    assert page.locator("#chart-map .heatmaplayer image").count() == 1
    assert page.locator("#chart-slices .errorbar").count() > 4 and page.locator("#chart-time .bars path").count() >= 4
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(CONTRAST) == []


def test_two_thousand_trials_are_painted_within_two_seconds(opened: Opened, large: Path) -> None:
    # The page's policy forbids eval, and with it Playwright's wait_for_function: the page's own observer waits instead.
    paint = """new Promise(done => new PerformanceObserver(list => {
        const entry = list.getEntriesByName('first-contentful-paint')[0];
        if (entry) done(entry.startTime);
    }).observe({type: 'paint', buffered: true}))"""
    times = []
    for _ in range(3):
        page = opened(large, charts=False)
        times.append(page.evaluate(paint))
    assert min(times) < 2000


def test_a_table_of_two_thousand_sorts_filters_and_unfolds(opened: Opened, large: Path) -> None:
    page = opened(large, charts=False)
    assert len(rows(page)) == 100 and "100 shown of 2,000 trials" in page.inner_text("#count")
    page.get_by_role("button", name="tok/s", exact=True).click()
    rates = [float(row[2].replace(",", "")) for row in rows(page)]
    assert rates == sorted(rates)
    page.get_by_role("button", name="tok/s ↑").click()
    falling = [float(row[2].replace(",", "")) for row in rows(page)]
    assert falling == sorted(falling, reverse=True) and falling[0] > rates[-1]
    assert page.get_attribute("#table th:nth-child(3)", "aria-sort") == "descending"
    page.fill("#filter", "max_num_seqs=256 eager=false")
    found = rows(page)
    assert found and all("max_num_seqs=256" in row[6] and "eager=false" in row[6] for row in found)
    page.fill("#filter", "")
    page.select_option("#filter-status", "out of memory")
    assert {row[5] for row in rows(page)} == {"out of memory"}
    page.select_option("#filter-status", "")
    page.click("#more")
    assert len(rows(page)) == 2000 and not page.is_visible("#more")


def test_the_copy_button_copies_by_keyboard(opened: Opened, run: Path) -> None:
    from playwright.sync_api import expect

    page = opened(run)
    page.focus("button.copy >> nth=0")
    page.keyboard.press("Enter")
    expect(page.locator("button.copy").first).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.inner_text("#use-1") != ""


def test_everything_that_acts_is_reached_and_worked_by_keyboard(opened: Opened, run: Path) -> None:
    page = opened(run)
    reached = set()
    for _ in range(45):
        page.keyboard.press("Tab")
        tag = "e => e.id || e.textContent.trim().slice(0, 12)"
        reached.add(page.eval_on_selector(":focus", tag) if page.locator(":focus").count() else "")
        assert page.evaluate(
            "!document.activeElement.matches('body *') || document.activeElement.matches(':focus-visible')"
        )
    assert {"map-x", "map-y", "map-rest", "by-trial", "by-time", "filter", "filter-phase", "# ↑", "Copy"} <= reached
    page.focus("#table th:nth-child(2) button")
    page.keyboard.press("Space")
    assert page.get_attribute("#table th:nth-child(2)", "aria-sort") == "ascending"
    page.focus("#by-time")
    page.keyboard.press("Enter")
    assert page.get_attribute("#by-time", "aria-pressed") == "true"
    assert "since the start" in (page.text_content("#chart-progress .xtitle") or "")


def test_the_map_shows_the_knobs_that_are_chosen(opened: Opened, run: Path) -> None:
    page = opened(run)
    assert "max_num_seqs" in (page.text_content("#chart-map .xtitle") or "")
    page.select_option("#map-x", "share")
    page.select_option("#map-y", "eager")
    page.select_option("#map-z", "j")
    page.select_option("#map-rest", "chosen")
    assert page.text_content("#chart-map .xtitle") == "share" and page.text_content("#chart-map .ytitle") == "eager"
    assert "J/token" in (page.text_content("#chart-map .infolayer") or "")
    page.select_option("#map-y", "share")
    assert page.locator("#chart-map .heatmaplayer image").count() == 1


def test_hostile_names_and_errors_do_nothing(opened: Opened, tmp_path: Path) -> None:
    run = report_again(hostile(tmp_path / "run").folder)[1]
    page = opened(run)
    for _ in range(3):
        page.hover("#chart-map .nsewdrag")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


def test_a_page_prints_with_all_its_charts(opened: Opened, run: Path) -> None:
    page = opened(run)
    assert len(page.pdf(format="A4")) > 50_000
    page.emulate_media(media="print")
    assert not page.is_visible(".controls") and page.is_visible("#chart-map")
    assert page.inner_text("#count") == "100 shown of 160 trials", "who reads the paper must see that rows are missing"


def test_a_page_is_loaded_only_when_every_chart_is_drawn(run: Path, tmp_path: Path) -> None:
    """Programs that print a page or take its picture do so at its load event: `chromium --headless --print-to-pdf`."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    dumped = subprocess.run([*command, run.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    assert sorted(re.findall(r'id="(chart-[a-z]+)"[^>]* data-drawn', dumped)) == sorted(CHARTS)
    assert "<iframe" not in dumped


def test_a_comparison_is_legible_too(opened: Opened, run: Path, large: Path, tmp_path: Path) -> None:
    compared = compare_runs([run.parent, large.parent], tmp_path / "out")
    for width, scheme in ((1280, "light"), (390, "dark")):
        page = opened(compared, width=width, scheme=scheme, charts=False)
        assert page.evaluate(CONTRAST) == [] and page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_study_is_legible_too(opened: Opened, tmp_path: Path) -> None:
    page_file = study(written(tmp_path), tmp_path / "out").page
    assert page_file is not None
    for width, scheme in ((1280, "light"), (390, "dark")):
        page = opened(page_file, width=width, scheme=scheme, charts=False)
        assert page.evaluate(CONTRAST) == [] and page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("svg").count() >= 4


def test_who_reads_in_the_dark_prints_on_white(opened: Opened, run: Path) -> None:
    from playwright.sync_api import expect

    page = opened(run, scheme="dark")
    ink = "() => getComputedStyle(document.querySelector('#chart-map .xtick text')).fill.match(/\\d+/g).map(Number)"
    assert min(page.evaluate(ink)) > 150
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert max(page.evaluate(ink)) < 100
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert min(page.evaluate(ink)) > 150
    page.emulate_media(media="print", color_scheme="dark")  # as a program prints, without the events of a print dialog
    for text in ("#chart-map .xtick text", "#chart-time .xtick text", ".picture text.bold"):
        expect(page.locator(text).first).to_have_css("fill", re.compile(r"rgb\((0, 0, 0|27, 31, 36)\)"))


def test_pages_of_maps_and_benches_and_of_nothing_are_drawn_without_an_error(opened: Opened, tmp_path: Path) -> None:
    """Every kind of run, down to one that measured nothing; `opened` fails on errors and requests."""
    searched = [one for one in tuned() if one.phase == "search"]
    kinds = {
        "landscape": [one.model_copy(update={"phase": "grid"}) for one in searched],
        "bench": [one.model_copy(update={"phase": "bench"}) for one in searched[:1]],
        "tune": [one for one in searched if one.measurement is None][:1],
    }
    for command, trials in kinds.items():
        file = report_again(saved(tmp_path / command, trials, command=command).folder)[1]
        page = opened(file, charts=bool(trials[0].measurement))
        assert page.locator("h1").inner_text() and page.locator("#table tbody tr").count() == min(100, len(trials))
