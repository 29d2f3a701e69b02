"""The page of one run: `report.html`, with the answer first. Its charts are drawn by the page's script."""

import json

from infertune.domain.knobs import format_scalar
from infertune.domain.measurement import Frozen
from infertune.profiles.profile import changed_settings
from infertune.report import pictures
from infertune.report.answer import best_name, contenders_of
from infertune.report.data import page_data
from infertune.report.escaping import one_line
from infertune.report.findings import Findings
from infertune.report.markdown import economy_rows
from infertune.report.page.advice import uses
from infertune.report.page.assembly import plotly, render, script
from infertune.report.page.failures import failure_kinds
from infertune.report.quality import answers_sentences, changed_lines, figure_rows, reference_sentence
from infertune.report.quality_picture import quality
from infertune.report.serving import HEADINGS as SERVING_HEADINGS
from infertune.report.serving import serving_sentences, time_rows
from infertune.report.serving_picture import serving
from infertune.report.table import COLUMNS
from infertune.report.words import (
    base_text,
    caveat_sentences,
    cliff_sentence,
    cliffs,
    edge_sentences,
    ending_sentence,
    headline,
    importance_sentences,
    interval_text,
    method_sentences,
    noise_sentence,
    peak_sentence,
    plateau_sentences,
    step_sentence,
    transfer_sentence,
    use_sentence,
)
from infertune.units import format_rate


def to_html(found: Findings) -> str:
    """The page of a run: one file that opens offline. The page's own policy forbids every connection."""
    header, summary = found.ledger.header, found.summary
    economy = economy_rows(summary.default_economy, summary.candidate_economy)
    plateau = found.terrain.plateau
    data = page_data(found)
    return render(
        "page.html.j2",
        script=script(),
        plotly=plotly(),
        title=title_of(found),
        found=found,
        header=header,
        summary=summary,
        headline=headline(found),
        transfer=transfer_sentence(summary),
        answer_rows=answer_rows(found),
        best_name=best_name(summary),
        base_text=base_text(summary),
        answer_picture=pictures.answer(found),
        to_set=found.to_set(found.advised),
        use=use_sentence(found),
        engine_defaults=header.engine_defaults,
        knobs={knob.name: knob for knob in header.space.knobs},
        scalar=format_scalar,
        uses=uses(found),
        economy=[row for row in economy if row[1] != "–" or row[2] != "–"],
        facts=facts(found),
        noise=noise_sentence(found),
        plateau=plateau_sentences(found),
        spans=[
            (span.knob, ", ".join(map(format_scalar, span.values)), len(span.values), span.tried)
            for span in (plateau.spans if plateau else ())
        ],
        peaks=peak_sentence(found),
        cliff=" ".join((cliff_sentence(found), *edge_sentences(found))),
        steps=[step_sentence(step) for step in cliffs(found)],
        importance=importance_sentences(found),
        effects=found.effects,
        shares=found.importance.shares if found.importance else {},
        serving=serving_sentences(found),
        serving_picture=serving(found),
        serving_headings=SERVING_HEADINGS,
        serving_rows=time_rows(found),
        answers=answers_sentences(summary),
        answers_about=reference_sentence(summary),
        answers_picture=quality(found),
        answers_rows=[
            (changed_settings(check.checked, summary.default_config), check.verdict, rows)
            for check in summary.checks
            if (rows := figure_rows(check))
        ],
        answers_changed=[line for check in summary.checks for line in changed_lines(check)],
        failures=failure_kinds(found),
        method=method_sentences(found),
        caveats=caveat_sentences(found),
        ending=ending_sentence(found),
        has_energy=any(spot.j is not None for spot in data.spots),
        columns=COLUMNS,
        data=script_json(data),
    )


def title_of(found: Findings) -> str:
    """Engine, model and device on one line."""
    header = found.ledger.header
    return f"{header.engine} {header.model.name if header.model else 'simulated'} on {header.device.name}"


def answer_rows(found: Findings) -> list[tuple[str, str, str, str]]:
    """Name, figure, 95% interval and number of launches of each configuration in the final comparison."""
    return [
        (contender.name, format_rate(e.mean) if e else "–", interval_text(e) if e else "–", str(e.n) if e else "0")
        for contender in contenders_of(found)
        for e in (contender.estimate,)
    ]


def facts(found: Findings) -> list[tuple[str, str]]:
    """What was measured, as pairs of name and value; what is not known is left out."""
    header = found.ledger.header
    model = header.model
    first = found.first
    versions = first.facts.versions if first else {}
    when = header.created_at.replace("T", " ").replace("+00:00", " UTC")
    pairs = [
        ("Device", str(header.device)),
        ("Engine", f"{header.engine} {header.engine_version or ''}".strip()),
        (
            "Model",
            f"{model.spec}, {model.weights} weights, {model.parameters_text}, {model.dtype}"
            if model
            else "none: a simulated or recorded landscape",
        ),
        ("Revision", (model.revision or "") if model else ""),
        ("Workload", header.workload.spec + (f", {found.requests} requests a {found.unit_of_work}" if first else "")),
        ("Objective", " under ".join([found.objective.name, *limits_of(found)])),
        ("Made", f"{when} by infertune {header.infertune_version}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))),
    ]
    return [(name, value) for name, value in pairs if value]


def limits_of(found: Findings) -> list[str]:
    """The limits on launches and on requests."""
    first = found.first.windows[0].service if found.first else None
    return [*(limit.text for limit in found.objective.limits), *map(str, first.promise.limits if first else ())]


def script_json(data: Frozen) -> str:
    """Numbers and printable texts as JSON that may stand inside a script element: nothing in it ends that element."""
    values = _printable(data.model_dump(mode="json"))
    text = json.dumps(values, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _printable(value: object) -> object:
    """The same values; every text among them on one line, without characters that are not seen."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, dict):
        return {name: _printable(one) for name, one in value.items()}
    return [_printable(one) for one in value] if isinstance(value, list) else value
