"""Tests and benchmarks; both are run as modules of this package."""

import os

# Before numpy is imported: two processes whose small matrices are each spread over all cores take three times as long.
# It is OpenBLAS's variable, so that engines keep their threads: torch's wheels bring another library.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
