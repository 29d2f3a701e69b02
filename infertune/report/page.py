"""`report.html`: one file that opens offline, with the answer first and its charts drawn after.

plotly.js travels inside the page, deflated; the page's script inflates it after the first paint. The page's own policy
forbids every connection.
"""

import base64
import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from shlex import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from infertune.domain.knobs import Config, format_scalar
from infertune.domain.measurement import Frozen
from infertune.engines import forms_of
from infertune.errors import UsageError
from infertune.report import pictures
from infertune.report.answer import best_name, contenders_of
from infertune.report.data import page_data, status_of
from infertune.report.findings import Findings
from infertune.report.markdown import economy_rows
from infertune.report.table import COLUMNS
from infertune.report.words import (
    caveat_sentences,
    cliff_sentence,
    cliffs,
    ending_sentence,
    headline,
    importance_sentences,
    interval_text,
    method_sentences,
    noise_sentence,
    peak_sentence,
    plateau_sentences,
    settings_text,
    step_sentence,
    transfer_sentence,
    use_sentence,
)
from infertune.units import format_percent, format_rate

_ASKED = ("requests", "seed", "window", "table", "engine-python")  # flags that a measurement is repeated with
_MOST_TAILS = 5
_TAIL_LINES = 25
_TAIL_CHARACTERS = 4000


@dataclass(frozen=True)
class FailureClass:
    """Failures of one kind, for people.

    Attributes:
        name: The kind.
        count: How many trials.
        where: What the configurations have in common that no measured one has, or nothing.
        examples: Number, changed settings, one line, and the end of the log; a few.
    """

    name: str
    count: int
    where: str
    examples: tuple[tuple[int, str, str, str], ...]


def to_html(found: Findings) -> str:
    """The page of a run."""
    header, summary = found.ledger.header, found.summary
    economy = economy_rows(summary.default_economy, summary.candidate_economy)
    plateau = found.terrain.plateau
    data = page_data(found)
    return render(
        "page.html.j2",
        script=_asset("page.js"),
        plotly=_plotly(),
        title=title_of(found),
        found=found,
        header=header,
        summary=summary,
        headline=headline(found),
        transfer=transfer_sentence(summary),
        answer_rows=answer_rows(found),
        best_name=best_name(summary),
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
        cliff=cliff_sentence(found),
        steps=[step_sentence(step) for step in cliffs(found)],
        importance=importance_sentences(found),
        effects=found.effects,
        shares=found.importance.shares if found.importance else {},
        failures=failure_classes(found),
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
    """Name, figure, interval and launches of what was compared."""
    return [
        (contender.name, format_rate(e.mean) if e else "–", interval_text(e) if e else "–", str(e.n) if e else "0")
        for contender in contenders_of(found)
        for e in (contender.estimate,)
    ]


def uses(found: Findings) -> list[tuple[str, str]]:
    """What to type to use the answer: a title and a text to copy, each."""
    header, name = found.ledger.header, quote(found.ledger.folder.resolve().name)
    settings = [f"{k}={format_scalar(v)}" for k, v in found.to_set(found.advised).root.items()]
    texts = [("The settings", "\n".join(settings))] if settings else []
    words = ["infertune", "bench"]
    if header.model:
        words.append(quote(header.model.spec))
        if header.model.weights == "dummy" and not header.model.spec.startswith("builtin:"):
            words.append("--weights dummy")
    words += ["--engine", quote(str(header.request.get("engine", header.engine)))]
    words += ["--workload", quote(header.workload.spec)]
    asked = ((flag, header.request.get(flag.replace("-", "_"))) for flag in _ASKED)
    words += [f"--{flag} {quote(str(value))}" for flag, value in asked if value is not None]
    words += [f"--set {quote(setting)}" for setting in settings]
    texts.append(("Measure it again", " ".join(words)))
    if found.searched and found.ledger.ending is not None:
        texts.append(("Run the engine with it, from the folder that holds this run", _export(header.engine, name)))
    return texts


def _export(engine: str, run: str) -> str:
    """The command that writes what the engine's users run; of an engine without such a form, the profile."""
    try:
        forms = forms_of(engine)
    except UsageError:  # a third party's engine that is not installed here
        forms = ()
    return f"infertune profile export {run}" + (f" --as {forms[0]}" if forms else "")


def facts(found: Findings) -> list[tuple[str, str]]:
    """What was measured: a name and a value each."""
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
            f"{model.spec}, {model.weights} weights, {model.parameters / 1e9:.3g} B parameters, {model.dtype}"
            if model
            else "none: a simulated or recorded landscape",
        ),
        ("Workload", header.workload.spec + (f", {first.n_requests} requests a job" if first else "")),
        ("Objective", " under ".join([found.objective.name, *(limit.text for limit in found.objective.limits)])),
        ("Made", f"{when} by infertune {header.infertune_version}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))),
    ]
    return [(name, value) for name, value in pairs if value]


def failure_classes(found: Findings) -> list[FailureClass]:
    """Failures by class, the most frequent first."""
    failed = [trial for trial in found.ledger.trials if trial.measurement is None]
    by_class: dict[str, list[int]] = {}
    for trial in failed:
        by_class.setdefault(status_of(trial), []).append(trial.number)
    summary_lines = {line.number: line.what for line in found.summary.failures}
    trials = {trial.number: trial for trial in failed}
    classes = []
    for name, numbers in sorted(by_class.items(), key=lambda item: (-len(item[1]), item[0])):
        configs = [trials[n].config for n in numbers]
        examples = []
        for number in numbers[:_MOST_TAILS]:
            tail = getattr(trials[number].outcome, "stderr_tail", "")
            cut = "\n".join(tail.splitlines()[-_TAIL_LINES:])[-_TAIL_CHARACTERS:]
            settings = settings_text(found.changed(trials[number].config))
            examples.append((number, settings, summary_lines[number], cut))
        classes.append(FailureClass(name, len(numbers), _common(configs, found), tuple(examples)))
    return classes


def _common(configs: list[Config], found: Findings) -> str:
    """Values that every failing configuration has and that are not simply everyone's."""
    everywhere = {
        name for name in configs[0].root if len({repr(spot.config[name]) for spot in found.terrain.spots}) <= 1
    }
    shared = {
        name: value
        for name, value in configs[0].root.items()
        if name not in everywhere and all(repr(c.root.get(name)) == repr(value) for c in configs)
    }
    return str(Config(shared)) if shared and len(configs) > 1 else ""


def script_json(data: Frozen) -> str:
    """Numbers as JSON that may stand inside a script element: nothing in it can end that element."""
    text = json.dumps(data.model_dump(mode="json"), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def code(name: object) -> Markup:
    """A name of the engine's, that may break after its underscores."""
    return Markup("<code>{}</code>").format(breakable(name))


def breakable(text: object) -> Markup:
    """A text that may break after underscores, dashes and slashes."""
    shown = escape(text)
    for mark in "_-/":
        shown = shown.replace(mark, Markup(f"{mark}<wbr>"))
    return shown


def prose(text: str) -> Markup:
    """A sentence, what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(code(part) if n % 2 else escape(part) for n, part in enumerate(parts))


def render(template: str, **values: object) -> str:
    """A page from its template; the style is every page's."""
    environment = Environment(
        loader=PackageLoader("infertune.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": format_percent, "code": code, "prose": prose, "breakable": breakable}
    return environment.get_template(template).render(css=_asset("page.css"), **values)


def _asset(name: str) -> str:
    return (files("infertune.report") / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _plotly() -> str:
    """The chart library, deflated, as text."""
    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode()
