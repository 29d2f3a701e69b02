"""Search strategies compared on recorded and on simulated landscapes: `python -m tests.benchmarks.search`."""
