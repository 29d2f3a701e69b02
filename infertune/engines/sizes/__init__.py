"""Counting a model with transformers, which knows its architecture, in a short process of its own."""
