"""The pages of a report in HTML: template, style and script lie beside the code that puts them together."""

from infertune.report.page.assembly import render
from infertune.report.page.run import to_html

__all__ = ["render", "to_html"]
