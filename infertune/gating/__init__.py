"""The performance gate: a profile against a base, and the verdict."""
