"""One run: the job it measures, its ledger on disk, its summary, and who watches it."""
