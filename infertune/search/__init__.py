"""Which configuration to try next."""

from infertune.search.base import Searcher, make_searcher

__all__ = ["Searcher", "make_searcher"]
