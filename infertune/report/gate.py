"""A gate's result for people and for CI: sentences, rows, a Markdown summary, GitHub annotations, JUnit."""

import re
from xml.etree import ElementTree

from infertune.domain.figures import ENERGY_FIGURES
from infertune.gating.comparison import RATE
from infertune.gating.result import GateResult, MetricResult
from infertune.gating.verdict import LOOKS
from infertune.report.escaping import escaped
from infertune.report.quality import figure_rows
from infertune.report.quality import verdict_sentence as answers_verdict
from infertune.stats import mean_with_zeros
from infertune.units import COMMAND_MARK, format_percent, format_rate, printable

HEADINGS = ("", "base", "new", "change", "95% interval", "verdict")
_WORDS = {"pass": "PASS", "regression": "REGRESSION", "inconclusive": "INCONCLUSIVE", None: "CALIBRATED"}
_LEVELS = {"pass": "notice", "regression": "error", "inconclusive": "warning", None: "notice"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def verdict_sentence(result: GateResult) -> str:
    """The verdict in one sentence."""
    word = _WORDS[result.answer]
    if result.calibration:
        return f"{word}: launches here differ by {result.calibration.cv:.2%} ({result.pairs} pairs)"
    if result.quality and (not result.metrics or result.quality.verdict == "fail"):
        return f"{word}: answers against {result.base.label}: {result.quality.why}"
    metric = _decisive(result)
    what = "throughput" if metric.name == RATE else metric.name
    if metric.withheld:
        return f"{word}: {what} is not compared: {metric.withheld}"
    if result.mode == "stored":
        return f"{word}: {what} {_against_history(result, metric)}"
    change = f"{format_percent(metric.ratio or 1)} against {result.base.label}"
    if metric.ratio is None:
        change = f"{_mean(metric.new_samples)} against {_mean(metric.base_samples)} of {result.base.label}"
    if metric.ratio_low is not None and metric.ratio_high is not None:
        change += f" (95% interval {format_percent(metric.ratio_low)} to {format_percent(metric.ratio_high)})"
    end = f"{result.pairs} pairs, margin {100 * (result.margin or 0):g}%"
    if result.answer == "inconclusive":
        end += f"; no verdict after {LOOKS[-1]} pairs: the launches differ too much, or the drop is near the margin"
    return f"{word}: {what} {change}, {end}"


def metric_rows(result: GateResult) -> list[tuple[str, ...]]:
    """One row a metric under `HEADINGS`."""
    return [
        (
            metric.name,
            _mean(metric.base_samples),
            _mean(metric.new_samples),
            "–" if metric.ratio is None else format_percent(metric.ratio),
            _interval(metric),
            _WORDS[metric.answer] if metric.answer else "",
        )
        for metric in result.metrics
    ]


def remarks(result: GateResult) -> list[str]:
    """What stands below the table: base and candidate, the stored gain, the calibration, notes."""
    lines = [f"{name}: {_side(result, name)}" for name in ("base", "new")]
    if result.quality:
        lines.append(f"answers: {answers_verdict(result.quality)}")
        lines += [
            f"answers: {name} {own} ({ends}), noise floor {floor}"
            for name, own, ends, floor in figure_rows(result.quality)
        ]
    if any(metric.name in ENERGY_FIGURES for metric in result.metrics):
        lines += _energy(result)
    if result.stored_gain:
        promised, measured = result.stored_gain.promised, result.stored_gain.measured
        lines.append(
            f"the profile promises {format_percent(promised[0])} over the default "
            f"({format_percent(promised[1])} to {format_percent(promised[2])}): "
            f"{'that still holds' if result.stored_gain.holds else 'today it is less'}, "
            f"{format_percent(measured[0])} ({format_percent(measured[1])} to {format_percent(measured[2])})"
        )
    if result.calibration:
        found, margin = result.calibration, 100 * (result.margin or 0)
        needed = f"{found.pairs_needed} pairs" if found.pairs_needed else f"more than {LOOKS[-1]} pairs"
        lines += [
            f"run-to-run CV {found.cv:.2%} (95% interval {found.cv_low:.2%} to {found.cv_high:.2%})",
            f"with a margin of {margin:g}%, 95% of the gates without a change pass within {needed}",
            f"with a margin of {margin:g}%, 95% of the drops of {found.smallest_drop:.1%} and more are reported",
            f"the smallest margin at which 95% of the gates without a change pass is {found.smallest_margin:.1%}",
        ]
    return [*lines, *(f"note: {note}" for note in result.notes)]


def step_summary(result: GateResult) -> str:
    """Markdown for a GitHub step summary; nothing in a profile can break out of it."""
    rows = ["| " + " | ".join(map(escaped, row)) + " |" for row in metric_rows(result)]
    table = ["| " + " | ".join(HEADINGS) + " |", "| --- | ---: | ---: | ---: | ---: | --- |", *rows, ""]
    lines = [
        f"### infertune gate: {_WORDS[result.answer]}",
        "",
        escaped(verdict_sentence(result)),
        "",
        *(table if rows else ()),
        *(f"- {escaped(line)}" for line in remarks(result)),
        f"- {escaped(result.question)}",
        f"- {escaped(result.profile)}: {escaped(str(result.fingerprint.device))}",
    ]
    return "\n".join(lines) + "\n"


def annotation(result: GateResult) -> str:
    """The workflow command that shows the verdict in GitHub's interface."""
    return command(_LEVELS[result.answer], verdict_sentence(result))


def command(level: str, message: str) -> str:
    """A workflow command on one line, its message escaped as GitHub's runner reads it, with no other command in it.

    Source: actions/toolkit, packages/core/src/command.ts, and actions/runner, src/Runner.Common/ActionCommand.cs: a
    `::` starts a command at the start of a line, a `##[` anywhere in it.
    """
    escaped_message = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    safe = re.sub(":(?=:)", ": ", printable(escaped_message).replace(COMMAND_MARK, "## ["))
    return f"::{level} title=infertune gate::{safe}"


def junit(result: GateResult) -> str:
    """A JUnit document with one test case for each gated metric."""
    cases = []
    for metric in result.metrics:
        if result.answer is not None and not metric.gated:
            continue
        case = ElementTree.Element("testcase", classname=_xml(f"infertune.gate.{result.mode}"), name=_xml(metric.name))
        if metric.answer == "regression" or (metric.answer == "inconclusive" and result.exit_code == 1):
            ElementTree.SubElement(case, "failure", message=_xml(verdict_sentence(result)), type=metric.answer)
        elif metric.answer == "inconclusive":
            ElementTree.SubElement(case, "skipped", message=_xml(verdict_sentence(result)))
        lines = (verdict_sentence(result), *map(" ".join, metric_rows(result)), *remarks(result))
        ElementTree.SubElement(case, "system-out").text = _xml("\n".join(lines))
        cases.append(case)
    return _suite(result.profile, cases)


def junit_of_error(profile: str, message: str, kind: str) -> str:
    """A JUnit document that says why there was no verdict."""
    case = ElementTree.Element("testcase", classname="infertune.gating.gate", name="gate")
    ElementTree.SubElement(case, "error", message=_xml(message), type=kind)
    return _suite(profile, [case])


def _suite(profile: str, cases: list[ElementTree.Element]) -> str:
    def count(tag: str) -> str:
        return str(sum(case.find(tag) is not None for case in cases))

    suite = ElementTree.Element(
        "testsuite",
        name=_xml(f"infertune gate {profile}"),
        tests=str(len(cases)),
        failures=count("failure"),
        errors=count("error"),
        skipped=count("skipped"),
    )
    suite.extend(cases)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _decisive(result: GateResult) -> MetricResult:
    """The metric that the verdict is about: the first that has it."""
    gated = [metric for metric in result.metrics if metric.gated]
    return next((metric for metric in gated if metric.answer == result.answer), gated[0])


def _against_history(result: GateResult, metric: MetricResult) -> str:
    mean = f"{_mean(metric.new_samples)} {metric.unit}"
    if metric.limit is None:
        return f"{mean}, {result.base.label}: no verdict yet"
    side = "at most" if metric.lower_is_better else "at least"
    limit = f"{side} {format_rate(metric.limit)} expected from {result.base.label}"
    return f"{mean}, {limit}"


def _side(result: GateResult, name: str) -> str:
    side = result.base if name == "base" else result.new
    parts = [side.label, side.engine, side.model or "", str(side.changed) or "default settings"]
    return ", ".join(part for part in parts if part)


def _energy(result: GateResult) -> list[str]:
    base, new = (" or ".join(side.energy) for side in (result.base, result.new))
    if result.mode == "stored" or base == new:
        return [f"energy is of {new}"] if new else []
    return [f"energy of base is of {base}, of new of {new}"]


def _interval(metric: MetricResult) -> str:
    if metric.ratio_low is None or metric.ratio_high is None:
        return "–"
    return f"{format_percent(metric.ratio_low)} to {format_percent(metric.ratio_high)}"


def _mean(samples: tuple[float, ...]) -> str:
    return format_rate(mean_with_zeros(samples)) if samples else "–"


def _xml(text: str) -> str:
    """Lines of printable text, without the characters that XML cannot hold."""
    return _NOT_XML.sub("�", "\n".join(map(printable, text.split("\n"))))
