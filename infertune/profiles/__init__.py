"""Saved configurations, what they were measured on, and the folder that keeps them."""
