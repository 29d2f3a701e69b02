"""Which configuration to try next."""

from infertune.search.base import Result, Searcher
from infertune.search.belief import Predictor
from infertune.search.finalists import Standing, standing
from infertune.search.make import make_searcher
from infertune.search.transfer import Transferred

__all__ = ["Predictor", "Result", "Searcher", "Standing", "Transferred", "make_searcher", "standing"]
