"""Which configuration to try next."""

from infertune.search.base import Result, Searcher
from infertune.search.belief import Predictor, believed
from infertune.search.make import make_searcher
from infertune.search.transfer import Transferred

__all__ = ["Predictor", "Result", "Searcher", "Transferred", "believed", "make_searcher"]
