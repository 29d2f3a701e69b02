"""The ledger: nothing measured is lost, and damage is never read as a measurement."""

import errno
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infertune.domain.knobs import Choice, Config, SearchSpace
from infertune.domain.measurement import Crashed, Energy, Infeasible, Measurement, Outcome, TimedOut, Window
from infertune.domain.record import FILE_NAME
from infertune.domain.trial import Trial
from infertune.errors import BenchmarkError, UsageError
from infertune.runs import ledger as ledgers
from infertune.runs.ledger import Ledger
from tests.builders import header, space, trial

positive = st.floats(1e-6, 1e9)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
stages = st.sampled_from(["load", "warmup", "run"])
knobs = [
    *space().knobs,
    Choice("anything", (None, True, 1, -(2**63) + 1, 0.5, "", "ü\u2028", " x"), None),
]
SPACE = SearchSpace(tuple(knobs))
configs = st.fixed_dictionaries({knob.name: st.sampled_from(knob.values) for knob in knobs}).map(Config)
SOME = SPACE.default


def of_one_size(given: list[Window]) -> tuple[Window, ...]:
    return tuple(window.model_copy(update={"n_requests": given[0].n_requests}) for window in given)


windows = st.builds(
    Window,
    duration_s=positive,
    n_requests=st.integers(1, 9999),
    prompt_tokens=st.integers(0, 10**9),
    output_tokens=st.integers(1, 10**9),
    latency_s=st.lists(positive, max_size=1).map(tuple),
    ttft_s=st.none() | st.lists(positive, max_size=1).map(tuple),
    energy=st.builds(Energy, gpu_j=st.none() | positive, reason=text),
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(
        Measurement,
        load_s=positive,
        warmup_s=positive,
        warmed_up=st.booleans(),
        windows=st.lists(windows, min_size=1, max_size=2).map(of_one_size),
    ),
    st.builds(Infeasible, reason=st.sampled_from(["oom", "rejected"]), stage=stages, detail=text),
    st.builds(TimedOut, stage=stages, after_s=positive),
    st.builds(Crashed, stage=stages, detail=text, exit_code=st.none() | st.integers(0, 255), stderr_tail=text),
)
trials = st.builds(
    Trial,
    number=st.just(0),
    phase=st.sampled_from(["search", "confirm", "final"]),
    round_number=st.integers(0, 99),
    config=configs,
    outcome=outcomes,
    started_at=st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.none() | st.just(UTC)).map(
        datetime.isoformat
    ),
    launch_number=st.integers(0, 99),
    launch_s=positive,
    run_s=positive,
    live=st.booleans(),
)


def lists_of_trials(least: int, most: int) -> st.SearchStrategy[list[Trial]]:
    """Trials with rising numbers."""
    return st.lists(trials, min_size=least, max_size=most).map(
        lambda rows: [row.model_copy(update={"number": number}) for number, row in enumerate(rows)]
    )


def written(folder: Path, rows: list[Trial], ended: str | None = None) -> Path:
    with Ledger.create(folder / "run", header(SPACE)) as ledger:
        for row in rows:
            ledger.append(row)
        if ended:
            ledger.finish(ended)
    return folder / "run"


@settings(max_examples=40, deadline=None)
@given(lists_of_trials(0, 4), st.none() | text.filter(bool))
def test_any_trials_are_read_back_as_they_were_written(rows: list[Trial], ended: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(written(Path(folder), rows, ended))
    assert ledger.trials == rows
    assert [row.config.key for row in ledger.trials] == [row.config.key for row in rows]
    assert ledger.header == header(SPACE)
    assert (ledger.ending, ledger.warnings) == (ended, ())


@settings(max_examples=40, deadline=None)
@given(lists_of_trials(1, 3), st.data())
def test_a_torn_last_line_loses_that_line_at_most(rows: list[Trial], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = written(Path(folder), rows)
        path = run / FILE_NAME
        content = path.read_bytes()
        last = len(content.splitlines(keepends=True)[-1]) if b"\r" not in content else len(content.split(b"\n")[-2]) + 1
        cut = data.draw(st.integers(0, last), label="bytes cut")
        path.write_bytes(content[: len(content) - cut])
        ledger = Ledger.open(run, mend=True)
        assert ledger.trials == (rows if cut == 0 else rows[:-1])
        assert len(ledger.warnings) == (0 < cut < last)
        ledger.append(rows[-1].model_copy(update={"number": len(rows)}))
        again = Ledger.open(run)
        assert again.trials == [*ledger.trials]
        assert again.warnings == ()


@settings(max_examples=40, deadline=None)
@given(lists_of_trials(2, 4), st.data())
def test_damage_before_the_last_line_is_refused_with_the_lines_number(rows: list[Trial], data: st.DataObject) -> None:
    at = data.draw(st.integers(2, len(rows)), label="line")
    with tempfile.TemporaryDirectory() as folder:
        run = written(Path(folder), rows)
        path = run / FILE_NAME
        lines = path.read_bytes().split(b"\n")
        keep = data.draw(st.integers(0, len(lines[at - 1]) - 1), label="bytes kept")
        lines[at - 1] = lines[at - 1][:keep] + data.draw(st.sampled_from([b"", b"\xff", b"\x00\x00"]), label="instead")
        path.write_bytes(b"\n".join(lines))
        with pytest.raises(UsageError, match=rf"line {at} is damaged") as refused:
            Ledger.open(run)
    assert "\n" not in str(refused.value)


def test_an_unknown_field_is_damage(tmp_path: Path) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    with (run / FILE_NAME).open("a") as file:
        file.write(json.dumps({**trial(1, SOME, 5.0).model_dump(mode="json"), "speed": 9}) + "\n")
    with pytest.raises(UsageError, match=r"line 3 is damaged: speed"):
        Ledger.open(run)


def test_without_mending_a_torn_line_stays_in_the_file(tmp_path: Path) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    with (run / FILE_NAME).open("ab") as file:
        file.write(b'{"number":1')
    before = (run / FILE_NAME).read_bytes()
    assert "11 bytes" in Ledger.open(run).warnings[0]
    assert (run / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it has no header; start a new run"),
        (b"\n", "it has no header; start a new run"),
        (b"\xef\xbb\xbf", "it has no header; start a new run"),
        (b'{"schema_version": 1, "infer', "its header in line 1 is cut off or damaged; start a new run"),
        (b'{"schema_version": 1, "infer\n{}\n', "its header in line 1 is cut off or damaged; start a new run"),
        (b"plain text\n", "its header in line 1 is cut off or damaged"),
        (b"\xff\n", "its header in line 1 is cut off or damaged"),
        (b"[" * 100_000 + b"\n", "its header in line 1 is cut off or damaged"),
        (b"[]\n", "line 1: "),
        (b'{"schema_version": 1}\n', "line 1: infertune_version: "),
    ],
)
def test_a_file_without_a_sound_header_is_no_ledger(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(UsageError, match="no ledger that this version of infertune reads") as refused:
        Ledger.open(tmp_path)
    assert why in str(refused.value) and "Invalid JSON" not in str(refused.value)


def test_a_byte_order_mark_before_a_ledger_is_ignored(tmp_path: Path) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    file = run / FILE_NAME
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + b'{"number":1')
    with Ledger.open(run, mend=True) as ledger:
        assert [row.number for row in ledger.trials] == [0] and "11 bytes" in ledger.warnings[0]
        ledger.append(trial(1, SOME, 6.0))
    assert [row.number for row in Ledger.open(run).trials] == [0, 1]


def test_a_ledger_in_place_of_its_folder_is_refused_with_the_folder(tmp_path: Path) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    with pytest.raises(UsageError) as refused:
        Ledger.open(run / FILE_NAME)
    assert str(refused.value).endswith(f"is not a run but a file: name the run's folder, such as {run}")


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    document = {**header().model_dump(mode="json"), "schema_version": 2}
    (tmp_path / FILE_NAME).write_text(json.dumps(document) + "\n")
    with pytest.raises(UsageError, match=r"has schema version 2, this infertune reads 1: upgrade infertune"):
        Ledger.open(tmp_path)


def test_a_ledger_without_a_schema_version_is_refused(tmp_path: Path) -> None:
    document = header().model_dump(mode="json")
    del document["schema_version"]
    (tmp_path / FILE_NAME).write_text(json.dumps(document) + "\n")
    with pytest.raises(UsageError, match="is no ledger .* it names no schema_version"):
        Ledger.open(tmp_path)


def test_a_folder_without_a_ledger_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run"):
        Ledger.open(tmp_path)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    with pytest.raises(UsageError, match="continue it with --resume"):
        Ledger.create(run, header())
    assert len(Ledger.open(run).trials) == 1


@pytest.mark.parametrize("command", ["gate", "bench", "landscape"])
def test_a_command_that_cannot_go_on_with_a_run_asks_for_another_folder(tmp_path: Path, command: str) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    with pytest.raises(UsageError) as refused:
        Ledger.create(run, header().model_copy(update={"command": command}))
    assert str(refused.value) == f"{run} holds a run already; choose another --out"


@pytest.mark.parametrize(("name", "what"), [("check.json", "check"), ("study.json", "study")])
def test_a_run_is_not_mixed_with_a_check_or_a_study(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match=f"holds a {what} already; choose another --out"):
        Ledger.create(tmp_path, header())
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("command", "cure"), [("tune", "continue with --resume"), ("gate", "start again")])
def test_a_full_disk_names_a_cure_that_the_command_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, cure: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with Ledger.create(tmp_path / "run", header().model_copy(update={"command": command})) as ledger:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(BenchmarkError, match=f"free some space, then {cure}"):
            ledger.append(trial(0, SOME, 5.0))


def test_a_folder_that_cannot_be_made_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another --out"):
        Ledger.create(tmp_path / "file" / "run", header())


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    ledger, before = Ledger.open(run), (run / FILE_NAME).read_bytes()
    write = os.write

    def half_then_full(descriptor: int, data: bytes) -> int:
        if len(data) < 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(ledgers.os, "write", half_then_full)
    with pytest.raises(BenchmarkError, match=r"No space left on device; its 1 trials are safe.*--resume"):
        ledger.append(trial(1, SOME, 6.0))
    assert (run / FILE_NAME).read_bytes() == before
    assert len(ledger.trials) == 1


def test_a_trial_is_on_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.create(tmp_path / "run", header())
    synced: list[int] = []
    monkeypatch.setattr(ledgers.os, "fsync", synced.append)
    ledger.append(trial(0, SOME, 5.0))
    assert len(synced) == 1
    assert len((tmp_path / "run" / FILE_NAME).read_bytes().splitlines()) == 2


def test_an_ending_is_the_reason_in_words(tmp_path: Path) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)], ended="all 1 trials were made")
    assert Ledger.open(run).ending == "all 1 trials were made"


def test_the_header_holds_the_space_as_it_was_searched(tmp_path: Path) -> None:
    assert Ledger.open(written(tmp_path, [])).header.space == SPACE.record()


def planted(run: Path, kind: str) -> Path:
    """Put the ledger elsewhere, and something of its name in its place; what must stay as it is."""
    ledger, elsewhere = run / FILE_NAME, run.parent / "precious"
    ledger.rename(elsewhere)
    if kind == "a link":
        ledger.symlink_to(elsewhere)
    else:
        ledger.hardlink_to(elsewhere)
    return elsewhere


@pytest.mark.parametrize(("kind", "words"), [("a link", "it is a link"), ("a hard link", "2 names")])
def test_a_ledger_is_never_appended_to_through_another_name(tmp_path: Path, kind: str, words: str) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    precious = planted(run, kind)
    precious.write_bytes(precious.read_bytes() + b'{"torn')
    before = precious.read_bytes()
    with pytest.raises(UsageError, match=words):
        Ledger.open(run, mend=True)
    with pytest.raises(BenchmarkError, match=words):
        Ledger.open(run).append(trial(1, SOME, 6.0))
    assert precious.read_bytes() == before


def test_a_new_run_leaves_a_dangling_link_of_the_ledgers_name_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILE_NAME).symlink_to(tmp_path / "start-up-file")
    with pytest.raises(UsageError, match="holds a run already"):
        Ledger.create(tmp_path / "run", header())
    assert (tmp_path / "run" / FILE_NAME).is_symlink() and not (tmp_path / "start-up-file").exists()


def test_a_second_process_may_read_a_run_but_not_append_to_it_while_one_does(tmp_path: Path) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    with Ledger.open(run, mend=True) as first:
        with pytest.raises(BenchmarkError, match=f"run is in use by another infertune run, process {os.getpid()};"):
            Ledger.open(run, mend=True)
        with pytest.raises(BenchmarkError, match="in use"):
            Ledger.open(run).append(trial(1, SOME, 6.0))
        first.append(trial(1, SOME, 6.0))
        assert len(Ledger.open(run).trials) == 2
    with Ledger.open(run, mend=True) as second:
        second.append(trial(2, SOME, 7.0))
    assert [row.number for row in Ledger.open(run).trials] == [0, 1, 2]


def test_what_one_run_appended_before_it_ended_is_known_to_the_next(tmp_path: Path) -> None:
    run = written(tmp_path, [trial(0, SOME, 5.0)])
    read = Ledger.open(run)
    with Ledger.open(run, mend=True) as first:
        first.append(trial(1, SOME, 6.0))
    assert len(read.trials) == 1 and len(Ledger.open(run, mend=True).trials) == 2


def test_a_run_to_which_trials_are_added_has_not_ended_until_it_ends_again(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "run", header(space())) as ledger:
        ledger.append(trial(0, space().default, 10.0))
        ledger.finish("every point was measured")
        ledger.append(trial(1, space().default, 11.0))
        assert ledger.ending is None and Ledger.open(tmp_path / "run").ending is None
        ledger.finish("again")
    assert Ledger.open(tmp_path / "run").ending == "again"
