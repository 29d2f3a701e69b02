"""Several landscapes together: a study's report, and what porting a configuration between them costs."""

from infertune.report.study.cell import Cell
from infertune.report.study.porting import Port, Travel, ports_between, travels
from infertune.report.study.runs import cells_of_runs

__all__ = ["Cell", "Port", "Travel", "cells_of_runs", "ports_between", "travels"]
