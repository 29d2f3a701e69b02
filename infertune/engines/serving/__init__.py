"""Engines that are servers: how one is started, loaded over HTTP at set times, and ended. Shared by their adapters."""
