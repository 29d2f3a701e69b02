"""Search strategies compared on recorded and on simulated landscapes: `python -m tests.benchmarks.search`."""

import os

# Before numpy is imported: two processes whose small matrices are each spread over all cores take three times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
