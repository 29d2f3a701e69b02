"""Distributions of token counts, and the formula of a synthetic workload."""

import random
import re
from dataclasses import dataclass

from infertune.errors import UsageError

MOST_TOKENS = 10_000_000  # of one request; no model has a context of that
_MOST_SIGMA = 5.0


@dataclass(frozen=True)
class Lengths:
    """A distribution of token counts: fixed, uniform or lognormal."""

    low: int
    high: int
    sigma: float = 0.0

    def draw(self, rng: random.Random) -> int:
        """One token count, at least 1."""
        if self.sigma:
            return max(1, min(round(rng.lognormvariate(0, self.sigma) * self.low), self.high))
        return rng.randint(self.low, self.high)

    @property
    def largest(self) -> int:
        """No draw is longer."""
        return self.high


@dataclass(frozen=True)
class Formula:
    """A synthetic workload's lengths in tokens, and one text for all its spellings, for the hash."""

    prompt: Lengths
    output: Lengths
    prefix_tokens: int
    canonical: str


def parse_formula(spec: str) -> Formula:
    """What stands behind `synthetic:`.

    Raises:
        UsageError: It is malformed, or a length is out of range or given twice.
    """
    given: dict[str, str] = {}
    for option in re.split(r",(?![^(]*\))", spec.partition(":")[2]):
        name, equals, value = option.partition("=")
        if not equals or name not in ("in", "out", "prefix"):
            raise UsageError(f"workload {spec!r}: {option!r} is not in=…, out=… or prefix=…")
        if name in given:
            raise UsageError(f"workload {spec!r}: {name} is given twice; leave one out")
        given[name] = value
    prefix = given.get("prefix", "0")
    if not re.fullmatch(r"[0-9]{1,8}", prefix) or int(prefix) > MOST_TOKENS:
        raise UsageError(f"workload {spec!r}: prefix={prefix} is not a number of tokens up to {MOST_TOKENS:,}")
    if not {"in", "out"} <= given.keys():
        raise UsageError(f"workload {spec!r} needs in=… and out=…, such as synthetic:in=512,out=128")
    return Formula(
        prompt=_parse_lengths(spec, given["in"]),
        output=_parse_lengths(spec, given["out"]),
        prefix_tokens=int(prefix),
        canonical=f"synthetic|{given['in']}|{given['out']}|{prefix}",
    )


def _parse_lengths(spec: str, text: str) -> Lengths:
    if match := re.fullmatch(r"(\d{1,8})", text):
        lengths = Lengths(int(match[1]), int(match[1]))
    elif match := re.fullmatch(r"(\d{1,8})-(\d{1,8})", text):
        lengths = Lengths(int(match[1]), int(match[2]))
    elif match := re.fullmatch(r"lognormal\((\d{1,8}),(\d{1,3}(?:\.\d{1,9})?)\)", text):
        sigma = float(match[2])
        lengths = Lengths(int(match[1]), int(match[1]) * (16 if sigma else 1), sigma)
    else:
        raise UsageError(f"workload {spec!r}: {text!r} is not 512, 64-256 or lognormal(MEDIAN,SIGMA)")
    if not 1 <= lengths.low <= lengths.high <= MOST_TOKENS:
        raise UsageError(
            f"workload {spec!r}: lengths {text!r} must be at least 1 token, at most {MOST_TOKENS:,}, and ascend"
        )
    if lengths.sigma > _MOST_SIGMA:
        raise UsageError(f"workload {spec!r}: the sigma of {text!r} must be at most {_MOST_SIGMA:g}")
    return lengths
