"""What `infertune profile` prints on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from infertune.cli.printing import Heading, say, table_of
from infertune.domain.differences import Difference
from infertune.profiles.profile import Profile
from infertune.profiles.store import Kept
from infertune.report.markdown import economy_rows
from infertune.report.quality import profile_lines
from infertune.report.words import interval_text
from infertune.stats import log_t_interval
from infertune.units import format_rate


def print_profile(console: Console, profile: Profile) -> None:
    """Print a profile's fingerprint, settings and figures."""
    found = profile.fingerprint
    model = "no model"
    if found.model:
        model = f"{found.model.spec} ({found.model.weights} weights, {found.model.dtype}, {found.model.config_hash})"
    limit = f", power limit {found.device.power_limit_w:g} W" if found.device.power_limit_w is not None else ""
    energy = economy_rows(profile.default_economy, profile.economy)
    lines = [
        f"{found.engine} {found.engine_version}, {model}, {found.workload.spec}",
        f"on {found.device}{limit}",
        f"by infertune {found.infertune_version} at {profile.created_at}, run {profile.run}",
        f"settings: {profile.changed if profile.changed.root else 'the default'}",
        *profile_lines(profile),
        f"{profile.answer}; {profile.objective} in {profile.unit}: {_samples(profile.samples)}",
        *([f"within the limits {' '.join(profile.slo)}"] if profile.slo else []),
        f"default: {_samples(profile.default_samples)}",
        *(f"{name}: {candidate} (default {default})" for name, default, candidate in energy if candidate != "–"),
    ]
    for line in lines:
        say(console, line)


def profile_table(kept: Sequence[Kept]) -> Table:
    """One row for each profile."""
    names = ("device", "engine", "model", "workload", "answer", "settings", "answers", "file")
    rows = []
    for item in kept:
        profile, found = item.profile, item.profile.fingerprint
        cells = (
            found.device.name,
            f"{found.engine} {found.engine_version or ''}",
            found.model.spec if found.model else "–",
            found.workload.spec,
            profile.verdict(),
            str(profile.changed) or "the default",
            profile.answers.verdict if profile.answers else "–",
            str(item.path),
        )
        rows.append(cells)
    return table_of(list(map(Heading, names)), rows)


def difference_table(rows: Sequence[Difference], first: str, second: str) -> Table:
    """One row for each field that differs."""
    return table_of([Heading(""), Heading(first), Heading(second)], [(row.field, row.before, row.now) for row in rows])


def _samples(samples: tuple[float, ...]) -> str:
    """The mean of a profile's samples with its interval."""
    if not samples:
        return "not measured"
    estimate = log_t_interval(samples)
    return f"{format_rate(estimate.mean)} (95% interval {interval_text(estimate)}, {estimate.n} launches)"
