"""Reports: pure functions of a run's ledger."""

from infertune.report.findings import Findings, find
from infertune.report.markdown import to_markdown
from infertune.report.page import to_html
from infertune.report.table import to_dataframe, write_table
from infertune.report.write import check_place, write_comparison, write_found, write_report

__all__ = [
    "Findings", "check_place", "find", "to_dataframe", "to_html", "to_markdown", "write_comparison", "write_found",
    "write_report", "write_table",
]  # fmt: skip
