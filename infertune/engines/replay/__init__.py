"""Answers from a recorded table."""
