"""The search strategies: which configuration is measured next, and which may be the best."""

from infertune.search.base import Result, Searcher
from infertune.search.finalists import Standing, standing
from infertune.search.make import make_searcher
from infertune.search.posterior import Predictor
from infertune.search.sampler import InfertuneSampler
from infertune.search.transfer import Transferred

__all__ = [
    "InfertuneSampler",
    "Predictor",
    "Result",
    "Searcher",
    "Standing",
    "Transferred",
    "make_searcher",
    "standing",
]
