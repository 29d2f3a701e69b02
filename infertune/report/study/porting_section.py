"""Porting in words, tables, a picture and a CSV."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from infertune.report.study.matrix import matrix
from infertune.report.study.porting import Port, Travel, over_groups
from infertune.report.study.sections import Picture, Section, Table
from infertune.stats import Estimate
from infertune.units import format_percent, format_rate, slugify

MOST_ROWS = 200  # of a table on the page; everything is in the CSV (judgement)
_MOST_SENTENCES = 6  # on one axis (judgement)
_MOST_PICTURES = 4  # of one axis, each of one group of cells; else one over all groups (judgement)
_MOST_PAIRS = 12  # of an axis with a row each (judgement)
_ONE = "one repetition: no interval"
_SAME = "the same configuration"
_METHOD = (
    "The gain of retuning is the best here over the configuration that was best there, used here, minus one: what is "
    "lost by not tuning again. Means and medians are over what could be compared. A configuration that fails here "
    "(out of memory, for instance) or was not measured here is counted apart and has no gain. "
    "The best of many measured configurations is overestimated, so a gain within the noise may be none.",
    "Of configurations that are exactly equal there, the first of the grid is brought: the smallest values.",
)


def porting_section(travels: Sequence[Travel], ports: Sequence[Port], title: str, *, told: bool) -> Section:
    """What is lost where the best of one cell is used in another.

    Args:
        travels: Ports by what changes.
        ports: Every one.
        title: Of the section.
        told: Whether it says in sentences what was found; a study's report says it at its start.
    """
    if not ports:
        return Section(title, text=("No two cells differ in one thing only and share a tuned knob.",))
    pictures, tables = [], []
    for axis in dict.fromkeys(travel.axis for travel in travels):
        own = [travel for travel in travels if travel.axis == axis]
        groups = dict.fromkeys(travel.group for travel in own)
        if len(groups) > _MOST_PICTURES:
            own, groups = over_groups(own), {"": None}
        for group in groups:
            caption = f"gain of retuning after a change of {axis}{f', {group}' if group else ''}: from row to column"
            name = f"porting-{slugify(f'{axis} {group}')[:80]}"
            drawn = [travel for travel in own if travel.group == group and travel.there]
            pictures.append(Picture(name, caption, matrix(drawn, caption)))
        pairs = len({(travel.there, travel.here) for travel in own})
        tables += [travel for travel in own if not travel.there or pairs <= _MOST_PAIRS]
    details = [ports_table(ports[:MOST_ROWS], len(ports))]
    if len(tables) < len(travels):
        more = f"Every change in every group of cells ({len(travels):,})"
        details.insert(0, travels_table(travels[:MOST_ROWS], more))
    return Section(
        title,
        tuple(headlines(travels)) if told else (),
        _METHOD,
        tuple(pictures),
        (travels_table(tables, "What a change costs those who do not tune again"),),
        tuple(details),
    )


def headlines(travels: Iterable[Travel]) -> list[str]:
    """One sentence for each change; where these are many, one for each group of cells, or one for an axis."""
    by_axis: dict[str, list[Travel]] = defaultdict(list)
    for travel in travels:
        by_axis[travel.axis].append(travel)
    told = []
    for axis in sorted(by_axis, key=lambda axis: axis == "model"):
        found = by_axis[axis]
        wide = [travel for travel in found if not travel.there]
        covered = {travel.group for travel in wide}
        pairs = [travel for travel in found if travel.there]
        brief = [*wide, *(travel for travel in pairs if travel.group not in covered)]
        every = Travel(axis, "", "", "", tuple(port for travel in pairs for port in travel.ports))
        told += next((choice for choice in (pairs, brief) if len(choice) <= _MOST_SENTENCES), [every])
    return list(map(_headline, told))


def travels_table(travels: Sequence[Travel], caption: str) -> Table:
    """One row a change."""
    headings = (
        "what changes", "from", "to", "with", "compared", "mean gain of retuning", "median", "largest", "lose",
        "lose over 2%", "lose beyond noise", "below the default", "fail here", "not measured here", "absent",
    )  # fmt: skip
    rows = [
        (
            travel.axis,
            travel.there or "any",
            travel.here or "any other",
            travel.group or "–",
            str(len(travel.gains)),
            _percent(travel.mean),
            _percent(travel.median),
            _percent(travel.most),
            str(travel.lose),
            str(travel.lose_clearly),
            "no intervals" if travel.gains and travel.without_interval == travel.lose > 0 else str(travel.lose_surely),
            str(travel.below_default),
            str(travel.count("fails here")),
            str(travel.count("not measured here") + travel.count("nothing ran")),
            str(travel.absent) if travel.there else "–",
        )
        for travel in travels
    ]
    return Table(headings, tuple(rows), caption)


def ports_table(ports: Sequence[Port], of: int) -> Table:
    """One row a port."""
    headings = ("from", "to", "brought", "here", "best here", "gain of retuning", "interval", "to the default here")
    rows = []
    for port in ports:
        best = port.here.best
        rows.append(
            (
                port.there.name,
                port.here.name,
                str(port.config),
                format_rate(port.ported.goodness) if port.ported else f"{port.kind}: {port.why}",
                f"{format_rate(best.goodness)} ({port.here.short(best.config)})" if best else "–",
                format_percent(port.gain.mean) if port.gain else "–",
                interval(port),
                format_percent(port.to_default.mean) if port.to_default else "–",
            )
        )
    shown = (
        f"Every port ({of:,})" if of == len(rows) else f"The first {len(rows):,} of {of:,} ports; all are in the CSV"
    )
    return Table(headings, tuple(rows), caption=shown)


def interval(port: Port) -> str:
    """The interval of a gain, or why there is none."""
    if port.gain is None:
        return "–"
    if port.same:
        return _SAME
    if port.gain.low is None or port.gain.high is None:
        return _ONE
    return f"{format_percent(port.gain.low)} to {format_percent(port.gain.high)}"


def ports_frame(ports: Sequence[Port]) -> pd.DataFrame:
    """One row a port, for `ports.csv`."""
    columns = [
        "axis", "from", "to", "shared", "brought", "outcome", "why", "unit", "ported", "best_here", "best_here_config",
        "default_here", "gain_of_retuning_percent", "gain_low_percent", "gain_high_percent", "repeats",
        "ported_to_default_percent", "same_configuration", "equally_good_there",
    ]  # fmt: skip
    rows = []
    for port in ports:
        best, default = port.here.best, port.here.default_point
        there, here = ([cell.labels[axis] for axis in port.axes] for cell in (port.there, port.here))
        low, high = _ends(port.gain if not port.same else None)
        rows.append(
            (
                " and ".join(port.axes),
                " · ".join(there),
                " · ".join(here),
                " · ".join(text for axis, text in port.here.labels.items() if axis not in port.axes and text),
                str(port.config),
                port.kind,
                port.why,
                port.here.unit,
                port.ported.goodness if port.ported else None,
                best.goodness if best else None,
                str(best.config) if best else None,
                default.goodness if default else None,
                port.gain_percent,
                low,
                high,
                port.gain.n if port.gain else None,
                (port.to_default.mean - 1) * 100 if port.to_default else None,
                port.same if port.gain else None,
                port.there.ties if port.there.best else None,
            )
        )
    return pd.DataFrame(rows, columns=columns).astype({"repeats": "Int64", "equally_good_there": "Int64"})


def _headline(travel: Travel) -> str:
    what = f"{travel.there} → {travel.here}" if travel.there else f"any change of {travel.axis}"
    name = f"{what}{f' ({travel.group})' if travel.group else ''}"
    compared = len(travel.gains)
    if len(travel.ports) == 1 and travel.mean is not None:
        return f"{name}: retuning gains {travel.mean:+.2f}% ({interval(travel.ports[0])})."
    fail, unknown = travel.count("fails here"), travel.count("not measured here")
    apart = [f"{n} {what}" for n, what in ((fail, "fail there"), (unknown, "were not measured there")) if n]
    more = f"; {' and '.join(apart)}, counted apart" if apart else ""
    if travel.mean is None or travel.median is None:
        return f"{name}: nothing could be compared{more}."
    return (
        f"{name}: retuning gains {travel.mean:+.2f}% on average and {travel.median:+.2f}% in the median of {compared}; "
        f"{travel.lose} of {compared} lose by not retuning, {travel.lose_clearly} of them more than 2%{more}."
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}%"


def _ends(estimate: Estimate | None) -> tuple[float | None, float | None]:
    if estimate is None or estimate.low is None or estimate.high is None:
        return None, None
    return (estimate.low - 1) * 100, (estimate.high - 1) * 100
