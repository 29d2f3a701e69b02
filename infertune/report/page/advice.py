"""How to use a run's answer: texts to copy."""

from shlex import quote

from infertune.domain.knobs import format_scalar
from infertune.engines import command_changes, forms_of
from infertune.errors import UsageError
from infertune.report.findings import Findings

_REPEATED = (
    "requests",
    "seed",
    "window",
    "table",
    "engine-python",
)  # without them, another job is measured


def uses(found: Findings) -> list[tuple[str, str]]:
    """What may be copied, a title and a text each: settings, what changes in today's command, what infertune can do."""
    header, name = found.ledger.header, quote(found.ledger.folder.resolve().name)
    settings = [f"{k}={format_scalar(v)}" for k, v in found.to_set(found.advised).root.items()]
    texts = [("The settings", "\n".join(settings))] if settings else []
    if header.running is not None:
        current, best = found.summary.default_config, found.summary.best_config
        changes = command_changes(header.engine, header.running, current, best, header.held)
        texts.append(("In your command", "\n".join(changes) or "change nothing"))
    texts.append(("Measure it again", _bench_command(found, settings)))
    if found.searched and found.ledger.ending is not None:
        export = _export_command(header.engine, name)
        texts.append(("Run the engine with it, from the folder that holds this run", export))
    return texts


def _bench_command(found: Findings, settings: list[str]) -> str:
    header = found.ledger.header
    words = ["infertune", "bench"]
    if header.model:
        words.append(quote(header.model.spec))
        if header.model.weights == "dummy" and not header.model.spec.startswith("builtin:"):
            words.append("--weights dummy")
    words += ["--engine", quote(str(header.request.get("engine", header.engine)))]
    words += ["--workload", quote(header.workload.spec)]
    asked = ((flag, header.request.get(flag.replace("-", "_"))) for flag in _REPEATED)
    words += [f"--{flag} {quote(str(value))}" for flag, value in asked if value is not None]
    words += [f"--set {quote(setting)}" for setting in settings]
    return " ".join(words)


def _export_command(engine: str, run: str) -> str:
    """The command that exports the profile in the first form that the engine offers, or as it is."""
    try:
        forms = forms_of(engine)
    except UsageError:  # a third party's engine that is not installed here
        forms = ()
    return f"infertune profile export {run}" + (f" --as {forms[0]}" if forms else "")
