"""`landscape.csv`: one row a trial, for pandas and for spreadsheets."""

from pathlib import Path

import pandas as pd

from infertune.domain.figures import co2e_g_per_million_tokens, energy_basis, j_per_output_token, power_w
from infertune.domain.measurement import describe
from infertune.domain.trial import Trial
from infertune.report.escaping import table_text
from infertune.runs.ledger import Ledger
from infertune.writing import write_inside

TABLE = "landscape.csv"
COLUMNS = {
    "number": "position in the ledger",
    "phase": "search, device, confirm, final, grid or bench",
    "round": "interleaved round within the phase",
    "status": "measured, oom, rejected, timed_out or crashed",
    "output_tokens_per_s": "output tokens over makespan, geometric mean of the windows",
    "steady_output_tokens_per_s": "the same while every slot was busy, first window",
    "n_requests": "requests in a window",
    "windows": "windows on this launch: sub-samples, not independent",
    "j_per_output_token": "gross joules per output token, of what `energy_basis` says",
    "power_w": "mean power in watts, of what `energy_basis` says",
    "energy_basis": "GPU, or CPU and memory; measured or modelled",
    "co2e_g_per_million_tokens": "grams of CO₂ equivalent a million output tokens",
    "load_s": "seconds to load the engine of this trial's launch",
    "launch_s": "seconds this trial paid for a launch",
    "run_s": "seconds of warm-up and windows",
    "launch_number": "trials of one number shared an engine",
    "live": "whether the engine was launched for another configuration",
    "peak_memory_bytes": "the engine's own peak memory",
    "started_at": "time in UTC",
    "what": "one line: the rate, or what went wrong; a text like a formula has a ' before it, in every column",
    "device_id": "which of the run's devices it ran on; empty where the run has one only",
}


def to_dataframe(ledger: Ledger) -> pd.DataFrame:
    """One row a trial; columns as in `COLUMNS`, then one `knob.NAME` a knob."""
    names = [knob.name for knob in ledger.header.space.knobs]
    columns = [*COLUMNS, *(f"knob.{name}" for name in names)]
    return pd.DataFrame([_row(trial) for trial in ledger.trials], columns=columns)


def _row(trial: Trial) -> dict[str, object]:
    row: dict[str, object] = {
        "number": trial.number,
        "phase": trial.phase,
        "round": trial.round_number,
        "status": trial.outcome.reason if trial.outcome.kind == "infeasible" else trial.outcome.kind,
        "launch_s": round(trial.launch_s, 3),
        "run_s": round(trial.run_s, 3),
        "launch_number": trial.launch_number,
        "live": trial.live,
        "started_at": trial.started_at,
        "what": describe(trial.outcome),
        "device_id": trial.device_id,
        **{f"knob.{name}": value for name, value in trial.config.root.items()},
    }
    if measurement := trial.measurement:
        window = measurement.windows[0]
        row |= {
            "output_tokens_per_s": round(measurement.output_tokens_per_s, 3),
            "steady_output_tokens_per_s": window.steady_output_tokens_per_s,
            "n_requests": window.n_requests,
            "windows": len(measurement.windows),
            "j_per_output_token": j_per_output_token(measurement),
            "power_w": power_w(measurement),
            "energy_basis": energy_basis(measurement),
            "co2e_g_per_million_tokens": co2e_g_per_million_tokens(measurement),
            "load_s": round(measurement.load_s, 3),
            "peak_memory_bytes": measurement.peak_memory_bytes,
        }
    return row


def write_table(ledger: Ledger) -> Path:
    """Write `landscape.csv` into the run's folder.

    Returns:
        Its path.

    Raises:
        UsageError: It cannot be written.
    """
    text = for_spreadsheets(to_dataframe(ledger)).to_csv(index=False)
    return write_inside(ledger.folder, TABLE, text, "table")


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """The same table with texts that no spreadsheet runs as formulas; numbers stay numbers."""
    plain = table.map(lambda value: table_text(value) if isinstance(value, str) else value)
    return plain.rename(columns=table_text)
