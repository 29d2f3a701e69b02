"""A simulated engine: a demonstration, and a test bed with a known answer."""
