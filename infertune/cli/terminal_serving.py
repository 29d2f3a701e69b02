"""A server's figures on the terminal."""

from collections.abc import Iterator, Mapping

from infertune.domain.figures import FIGURES
from infertune.report.words import interval_text
from infertune.stats import Estimate

_SHOWN = (
    "completed_per_s", "goodput_per_s", "attainment",
    "ttft_p50_s", "ttft_p90_s", "ttft_p99_s", "tpot_p50_s", "tpot_p90_s", "tpot_p99_s",
    "itl_p50_s", "itl_p99_s", "latency_p50_s", "latency_p99_s",
)  # fmt: skip


def figure_lines(figures: Mapping[str, Estimate]) -> Iterator[str]:
    """A line a figure: its mean over launches with its interval."""
    for name in _SHOWN:
        if name in figures:
            found = figures[name]
            known = found.n == 1 or found.low is not None
            spread = f"95% interval {interval_text(found)}" if known else f"{found.n} launches"
            yield f"{name:16} {found.mean:.4g} {FIGURES[name].unit} ({spread})"
