"""Hugging Face text-generation pipelines."""
