"""The promise of a server: limits on what each request takes, and the share of requests that must keep them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from infertune.domain.frozen import Frozen
from infertune.domain.load import Sent
from infertune.errors import UsageError
from infertune.units import parse_number

RequestFigure = Literal["ttft_s", "tpot_s", "itl_s", "latency_s"]
REQUEST_FIGURES: tuple[RequestFigure, ...] = ("ttft_s", "tpot_s", "itl_s", "latency_s")
_WITH_QUEUE = ("ttft_s", "latency_s")  # a request waits in the queue before its first token
DEFAULT_ATTAIN = 0.99  # DistServe (OSDI 2024) reports 90% and 99%; the stricter one promises more
BROKEN = 1e6  # the strain of a request that failed: worse than any latency that is waited for


class RequestLimit(Frozen):
    """The most that a request may take of one figure.

    Attributes:
        figure: Of a request, in seconds: time to first token, mean and longest time between its tokens, whole latency.
        most_s: The limit in seconds, itself allowed.
        share: The share of requests that must keep it; None means the promise's own.
    """

    figure: RequestFigure
    most_s: Annotated[float, Field(gt=0, le=1e6)]
    share: Annotated[float, Field(gt=0, lt=1)] | None = None

    def __str__(self) -> str:
        name = self.figure if self.share is None else f"{self.figure[:-2]}_p{self.share * 100:g}_s"
        return f"{name}<{self.most_s:g}"


class Promise(Frozen):
    """What a configuration must keep while it serves.

    Attributes:
        limits: Every limit; a request keeps the promise if it keeps all those without a share of their own.
        attain: The share of requests that must keep it.
    """

    limits: tuple[RequestLimit, ...] = ()
    attain: Annotated[float, Field(gt=0, lt=1)] = DEFAULT_ATTAIN

    def strain(self, sent: Sent) -> float:
        """How much of the tightest limit a request used: 1 or less keeps the promise.

        A request that failed, was cut or came back short has broken it, and so has one whose figure is unknown.
        """
        if sent.error:
            return BROKEN
        used = [self._used(limit, sent) for limit in self.limits if limit.share is None]
        return max(used, default=0.0)

    def with_share_strains(self, sent: Sequence[Sent]) -> dict[float, list[float]]:
        """Share → strains of all requests under the limits that this share of them must keep."""
        strains: dict[float, list[float]] = {self.attain: [self.strain(one) for one in sent]}
        for limit in self.limits:
            if limit.share is not None:
                mine = [BROKEN if one.error else self._used(limit, one) for one in sent]
                others = strains.get(limit.share, [0.0] * len(mine))
                strains[limit.share] = [max(pair) for pair in zip(mine, others, strict=True)]
        return strains

    @property
    def of_waiting(self) -> "Promise":
        """The same with the limits alone that a queue breaks: on figures that hold the time in it."""
        return Promise(limits=tuple(limit for limit in self.limits if limit.figure in _WITH_QUEUE), attain=self.attain)

    def alone(self, limit: RequestLimit) -> "Promise":
        """The same with one of its limits."""
        return Promise(limits=(limit,), attain=self.attain)

    @property
    def tightest_s(self) -> float | None:
        """The smallest limit in seconds, None without any."""
        return min((limit.most_s for limit in self.limits), default=None)

    def allowed_s(self, output_tokens: int) -> float:
        """Seconds that the limits let a request of so many output tokens take, and half as long again.

        It bounds a request only where `bounds_requests` says so; else it is what one is expected to take at most.
        """
        most = {figure: [] for figure in REQUEST_FIGURES}  # type: dict[str, list[float]]
        for limit in self.limits:
            most[limit.figure].append(limit.most_s)
        if most["latency_s"]:
            return 1.5 * max(most["latency_s"])
        token_s = min(most["tpot_s"] + most["itl_s"], default=None)
        if token_s is None:
            return _PATIENCE_S
        return 1.5 * (max(most["ttft_s"], default=token_s) + token_s * output_tokens)

    @property
    def bounds_requests(self) -> bool:
        """Whether a request that takes longer than `allowed_s` has surely broken a limit.

        More requests than `attain` allows may exceed a limit on a lower percentile; with one of those none is sure.
        """
        figures = {limit.figure for limit in self.limits}
        whole = "latency_s" in figures or ("ttft_s" in figures and bool(figures & {"tpot_s", "itl_s"}))
        return whole and all(limit.share is None or limit.share >= self.attain for limit in self.limits)

    def patience_s(self, output_tokens: int, takes_s: float = 0.0) -> float:
        """Seconds after which waiting for a request has no more use.

        Args:
            output_tokens: That it asks for.
            takes_s: What a request is known to take in the mean; 0 where that is not known.
        """
        allowed_s = self.allowed_s(output_tokens)
        if self.bounds_requests:
            return allowed_s
        limits_s = [_LIMITS_WAITED * limit.most_s for limit in self.limits]
        return max(_PATIENCE_S, allowed_s, _TIMES_WAITED * takes_s, *limits_s)

    @staticmethod
    def _used(limit: RequestLimit, sent: Sent) -> float:
        value = request_figure(limit.figure, sent)
        if value is None:
            return 0.0 if limit.figure in ("tpot_s", "itl_s") and sent.output_tokens < 2 else BROKEN
        return min(value / limit.most_s, BROKEN)


_PATIENCE_S = 60.0  # for what is unfinished when the last request was sent, where no limit says more; judgement
_LIMITS_WAITED = 2.0  # times the largest limit, where limits do not bound the whole request; judgement
_TIMES_WAITED = 5.0  # times what a request takes in the mean, likewise; judgement


def limits_requests(text: str) -> bool:
    """Whether a limit of `--slo` is on every single request, such as `ttft_s<0.5`."""
    return re.split(r"[<>]", text, maxsplit=1)[0].strip() in REQUEST_FIGURES


def request_figure(name: RequestFigure, sent: Sent) -> float | None:
    """A figure of one request in seconds; None where it is not known, or the request failed before it."""
    match name:
        case "ttft_s":
            return sent.ttft_s
        case "tpot_s":
            return sent.tpot_s
        case "latency_s":
            return sent.latency_s
        case "itl_s":
            return max(sent.gaps_s) if sent.gaps_s else None


@dataclass(frozen=True)
class ParsedLimit:
    """A limit of `--slo` as it was read: of requests, or of another figure of a launch."""

    of_requests: RequestLimit | None
    figure: str
    comparison: str
    value: float


def parse_limit(text: str, figures: Sequence[str]) -> ParsedLimit:
    """A limit such as `ttft_s<0.5`, `ttft_p99_s<2` or `j_per_output_token<0.05`.

    Args:
        text: As typed.
        figures: Names of the figures of a launch.

    Raises:
        UsageError: It is malformed, there is no such figure, or no launch could keep it.
    """
    match = re.fullmatch(r"\s*(\w+)\s*([<>])=?\s*(\S+)\s*", text)
    try:
        value = parse_number(match[3]) if match else None
    except ValueError:
        value = None
    if match is None or value is None:
        raise UsageError(f"--slo {text!r} is not like ttft_s<0.5 or j_per_output_token<0.05")
    name, comparison = match[1], match[2]
    if name in REQUEST_FIGURES and comparison == "<" and 0 < value <= 1e6:
        return ParsedLimit(RequestLimit.model_validate({"figure": name, "most_s": value}), name, comparison, value)
    if name in REQUEST_FIGURES:
        raise UsageError(f"--slo {text!r}: a request's time is limited from above, in seconds, as in {name}<0.5")
    if name not in figures:
        known = ", ".join((*REQUEST_FIGURES, *figures))
        raise UsageError(f"--slo {text!r}: there is no figure {name!r}; there are {known}")
    if comparison == "<" and value <= 0:
        raise UsageError(f"--slo {text!r} can be kept by no launch: a limit from above must be over 0")
    if name == "attainment" and comparison == ">" and value > 1:  # 1 can be kept: a limit is itself allowed
        raise UsageError(f"--slo {text!r} can be kept by no launch: attainment is a share, 1 at most")
    quantile = re.fullmatch(r"(ttft|tpot|itl|latency)_p(\d+)_s", name)
    limit = None
    if quantile and comparison == "<" and 0 < value <= 1e6:
        limit = RequestLimit.model_validate(
            {"figure": f"{quantile[1]}_s", "most_s": value, "share": int(quantile[2]) / 100}
        )
    return ParsedLimit(limit, name, comparison, value)
