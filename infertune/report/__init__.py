"""Reports: pure functions of a run's ledger."""

from infertune.report.markdown import to_markdown
from infertune.report.table import to_dataframe, write_report, write_table

__all__ = ["to_dataframe", "to_markdown", "write_report", "write_table"]
