"""`report.html` and its pictures, read as text: a browser's view of it is in `tests/browser`."""

import html
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from infertune.cli.terminal import print_findings
from infertune.domain.objective import get_objective
from infertune.report import Findings, find, to_html, to_markdown
from infertune.report.data import page_data
from infertune.report.page.advice import uses
from infertune.report.pictures import drawn
from infertune.report.words import caveat_sentences, importance_sentences, noise_sentence
from infertune.runs.ledger import Ledger
from infertune.tuning.afterwards import compare_runs, report_again
from infertune.units import format_percent, format_rate
from tests.builders import config, ledger_of, measured, one_knob, oom, trial
from tests.report.runs import NASTY, SPACE, UNSEEN, beaten, hostile, saved, tuned

THROUGHPUT = get_objective("throughput")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_report_is_made_again_byte_for_byte_wherever_the_run_lies(tmp_path: Path) -> None:
    saved(tmp_path / "a" / "run", tuned())
    report_again(tmp_path / "a" / "run")
    before = files(tmp_path / "a")
    assert set(before) == {
        "run/trials.jsonl", "run/landscape.csv", "run/report.html", "run/report.md", "run/pictures/answer.svg",
        "run/pictures/landscape.svg", "run/pictures/importance.svg", "run/pictures/progress.svg",
        "run/pictures/energy.svg",
    }  # fmt: skip
    (tmp_path / "a").rename(tmp_path / "b")
    for name in before:
        if name != "run/trials.jsonl":
            (tmp_path / "b" / name).unlink()
    report_again(tmp_path / "b" / "run")
    assert files(tmp_path / "b") == before


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", tuned()[:1], ended=None).folder
    (run / "pictures").mkdir()
    (run / "pictures" / "energy.svg").write_text("old")
    report_again(run)
    assert {path.name for path in (run / "pictures").iterdir()} == {"answer.svg"}


def test_page_terminal_and_markdown_tell_the_same_numbers(tmp_path: Path) -> None:
    found = find(saved(tmp_path / "run", tuned()), THROUGHPUT)
    gain, candidate = found.summary.gain, found.summary.candidate
    assert gain is not None and candidate is not None and found.summary.answer == "better"
    page, markdown, terminal = to_html(found), to_markdown(found), printed(found)
    for text in (page, markdown, terminal):
        assert format_percent(gain.mean) in text and format_rate(candidate.mean) in text
        assert "J per output token" in text and "max_num_seqs" in text
        for line in importance_sentences(found):
            assert plain(line) in plain(text)
    for text in (page, markdown):
        assert "381 g/kWh, DEU, codecarbon 3.3.2" in text


def plain(text: str) -> str:
    """Without the marks of HTML and Markdown, and without line ends."""
    return re.sub(r"<wbr>|</?code>|[\\`\s]", "", html.unescape(text))


def printed(found: Findings) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_findings(console, found)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_where_the_default_is_to_be_kept_nothing_else_is_offered(tmp_path: Path) -> None:
    found = find(saved(tmp_path / "run", beaten()), THROUGHPUT)
    assert found.summary.answer == "no better than the default"
    assert found.summary.candidate_config != found.summary.default_config
    assert [name for name, _ in uses(found)] == [
        "Measure it again",
        "Run the engine with it, from the folder that holds this run",
    ]
    assert "--set" not in uses(found)[0][1]
    for text in (to_html(found), to_markdown(found)):
        assert "Change nothing" in text and "was not shown to be better" in text
    assert "settings:" not in printed(found)


def test_what_the_command_set_is_part_of_what_to_use(tmp_path: Path) -> None:
    """The engine's own default is not the run's where the command set something."""
    ledger = saved(tmp_path / "run", tuned(), engine_defaults=SPACE.default.updated({"share": 0.7}))
    found = find(ledger, THROUGHPUT)
    assert (
        "share=0.8" in dict(uses(found))["The settings"] and "--set share=0.8" in dict(uses(found))["Measure it again"]
    )
    assert any(
        "“Default” is the engine's default with what the command set" in line for line in caveat_sentences(found)
    )


def test_a_bench_says_what_was_measured_and_how_it_ended(tmp_path: Path) -> None:
    trials = [trial(n, SPACE.default, measured(100.0 + n), "bench") for n in range(3)]
    found = find(saved(tmp_path / "run", trials, command="bench", ended="all 3 launches were made"), THROUGHPUT)
    assert found.summary.answer == "unconfirmed"
    for text in (to_html(found), to_markdown(found)):
        assert "ended because all 3 launches were made" in text and "interrupted" not in text
        assert "measured on 3 launches" in text


def test_repeats_on_one_launch_are_one_launch(tmp_path: Path) -> None:
    trials = [
        trial(n, SPACE.default, measured(100.0 + n), "grid", n).model_copy(update={"launch_number": 0})
        for n in range(5)
    ]
    found = find(saved(tmp_path / "run", trials, command="landscape"), THROUGHPUT)
    assert found.summary.default is not None and found.summary.default.n == 1 and found.summary.default.low is None
    assert "on one and the same launch" in noise_sentence(found)


def test_a_run_is_named_the_same_from_within_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved(tmp_path / "run", tuned()).folder
    page = to_html(find(Ledger.open(run), THROUGHPUT))
    monkeypatch.chdir(run)
    assert to_html(find(Ledger.open(Path()), THROUGHPUT)) == page


def test_a_map_recommends_its_best(tmp_path: Path) -> None:
    trials = [one.model_copy(update={"phase": "grid"}) for one in tuned() if one.phase == "search"]
    summary = find(saved(tmp_path / "run", trials, command="landscape"), THROUGHPUT).summary
    assert summary.answer == "unconfirmed" and summary.best_config == summary.candidate_config != summary.default_config


def test_a_page_of_two_thousand_trials_is_under_six_megabytes_and_holds_each(tmp_path: Path) -> None:
    found = find(saved(tmp_path / "run", tuned(trials=1990)), THROUGHPUT)
    page = to_html(found)
    assert len(page.encode()) < 6_000_000
    assert len(json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])["trials"]) == 2000  # type: ignore[index]


class Markup(HTMLParser):
    """Counts the elements of a page, and what they would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on") and name != "onsubmit"]


def test_a_page_names_nothing_to_fetch_and_forbids_it(tmp_path: Path) -> None:
    markup = Markup()
    page = to_html(find(saved(tmp_path / "run", tuned()), THROUGHPUT))
    markup.feed(page)
    assert set(markup.fetched) == {"data:,", "#trials"} and "default-src 'none'" in page
    assert not set(markup.tags) & {"iframe", "object", "embed", "base", "img"}


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    found = find(hostile(tmp_path / "run"), THROUGHPUT)
    page, markup = to_html(found), Markup()
    markup.feed(page)
    assert markup.tags.count("script") == 3 and "img" not in markup.tags and markup.handlers == []
    assert "window.hacked" in page  # it is there to be read
    for _, text in drawn(found).values():
        assert {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()} <= {
            "svg", "style", "g", "text", "line", "path", "circle", "rect",
        }  # fmt: skip
    assert "<script" not in to_markdown(found) and "<img" not in to_markdown(found)


def test_no_file_of_a_report_holds_what_is_not_seen_or_what_github_acts_on(tmp_path: Path) -> None:
    run = hostile(tmp_path / "run").folder
    report_again(run)
    compare_runs([run, saved(tmp_path / UNSEEN, tuned()).folder], tmp_path / "compared")
    written = [path for path in (*run.rglob("*.*"), *(tmp_path / "compared").iterdir()) if path.suffix != ".jsonl"]
    assert {path.name for path in written} >= {
        "report.html", "report.md", "landscape.csv", "answer.svg", "progress.svg", "comparison.html", "comparison.md",
        "comparison.svg",
    }  # fmt: skip
    for path in written:
        text = path.read_text(encoding="utf-8")
        unseen = {letter for letter in text if not letter.isprintable()} - {"\n", "\u2060"}
        assert not unseen, (path.name, unseen)
        if path.suffix == ".md":
            blocks = MarkdownIt("commonmark").enable("table").parse(text)
            parts = [*blocks, *(part for block in blocks for part in block.children or ())]
            assert not {part.type for part in parts} & {"html_block", "html_inline", "link_open", "code_block", "fence"}
            pictures = [str(part.attrs["src"]) for part in parts if part.type == "image"]
            assert pictures and all(re.fullmatch(r"(pictures/)?[a-z]+\.svg", name) for name in pictures)
            plain = "".join(part.content for part in parts if part.type == "text")
            assert "evil.example" in plain and not re.search(r"://evil|@team|#1\b", plain)


def test_every_picture_is_whole_and_knows_dark_and_light(tmp_path: Path) -> None:
    found = find(saved(tmp_path / "run", tuned()), THROUGHPUT)
    pictures = drawn(found)
    assert list(pictures) == ["answer", "landscape", "importance", "progress", "energy"]
    for name, (caption, text) in pictures.items():
        root = ElementTree.fromstring(text)
        assert caption and root.get("aria-label") and "prefers-color-scheme:dark" in text
        _, _, width, height = map(float, (root.get("viewBox") or "").split())
        for element in root.iter("{http://www.w3.org/2000/svg}text"):
            assert 0 <= float(element.get("x") or -1) <= width and 0 <= float(element.get("y") or -1) <= height
        assert f"pictures/{name}.svg" in to_markdown(found)


def test_a_landscape_gets_the_page_without_the_search(tmp_path: Path) -> None:
    trials = [one.model_copy(update={"phase": "grid"}) for one in tuned() if one.phase == "search"]
    page = to_html(find(saved(tmp_path / "run", trials, command="landscape"), THROUGHPUT))
    assert "A map, not a proof" in page and 'id="chart-map"' in page
    assert 'id="chart-progress"' not in page and "profile export" not in page


@pytest.mark.parametrize("rows", [[], [("search", 0, config(slots=1), oom())], [("search", 0, config(slots=1), 5.0)]])
def test_a_run_with_little_in_it_has_a_page_all_the_same(rows: list[object]) -> None:
    found = find(ledger_of(*rows, of=one_knob(1, 2)), THROUGHPUT)  # type: ignore[arg-type]
    assert 'id="table"' in to_html(found) and to_markdown(found).startswith("# fake")


def test_failures_stand_by_class_with_the_end_of_their_logs(tmp_path: Path) -> None:
    page = to_html(find(saved(tmp_path / "run", tuned(trials=90)), THROUGHPUT))
    assert re.search(r"<h3>out of memory: \d+ trials?</h3>", page)
    assert "torch.OutOfMemoryError: tried to allocate 2 GiB" in page
    assert re.search(r"All of them have <code>max_<wbr>num_<wbr>seqs=256 share=0\.9</code>", page)


def test_time_is_split_into_launch_warm_up_run_and_ours(tmp_path: Path) -> None:
    ledger = saved(tmp_path / "run", tuned(trials=12))
    whole = page_data(find(ledger, THROUGHPUT)).times
    assert [part.phase for part in whole] == ["search", "final"]
    final = [trial for trial in ledger.trials if trial.phase == "final"]
    windows = sum(window.duration_s for trial in final if trial.measurement for window in trial.measurement.windows)
    assert (whole[1].launch, whole[1].warmup) == (20.0, 10.0) and whole[1].windows == pytest.approx(windows, abs=0.06)
    assert whole[1].ours == pytest.approx(sum(trial.run_s for trial in final) - 10.0 - windows, abs=0.06)


def test_the_table_opens_in_pandas_with_one_call(tmp_path: Path) -> None:
    run: Ledger = saved(tmp_path / "run", tuned())
    report_again(run.folder)
    table = pd.read_csv(run.folder / "landscape.csv")
    assert len(table) == len(run.trials) and table["output_tokens_per_s"].dtype == float


def test_the_nasty_text_is_nasty() -> None:
    assert {"<", ">", "&", '"', "'", "`", "|"} <= set(NASTY)
