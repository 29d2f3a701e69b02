"""What a configuration does to answers: scores of the same tokens by two configurations, compared, and the verdict.

The reference answers some prompts greedily. Prompts with these answers are then scored, teacher-forced, by the
reference again and by a candidate: the log probability of every token, and of the likeliest tokens at its position.
The figures are means over positions; their intervals are over prompts, for the positions of one prompt are not
independent (a ratio estimator with its variance by cluster: Cochran, Sampling Techniques, 1977, chapters 2 and 11).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field, field_validator

from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen
from infertune.stats import cluster_share_interval, cluster_t_interval
from infertune.units import parse_share

TOP = 20  # tokens a position; what vLLM gives unless it is launched for more
LOOKS = (16, 32, 64, 128)  # prompts after which there is a verdict; the last is the most that are scored (judgement)
ERROR = 0.025  # one-sided, over all looks together
_WORST_PROMPTS = 5
_SHOWN_CHARACTERS = 240

Verdict = Literal["pass", "fail", "open", "not checked"]
_ByCluster = Callable[[Sequence[float], Sequence[int], float], tuple[float, float | None, float | None]]


class Answered(Frozen):
    """A prompt with the reference's greedy answer.

    Attributes:
        token_ids: Of the prompt and the answer.
        first: Index of the first token that is scored: the answer's first. Of its own answers a model is surest, so a
            fault shows there; the tokens of a prompt would dilute it.
        prompt_tokens: Length of the prompt.
        prompt: Its text, for people; empty where only its length is known.
        answer: Text of the answer.
    """

    token_ids: tuple[int, ...]
    first: int = Field(ge=1)
    prompt_tokens: int = Field(ge=1)
    prompt: str = ""
    answer: str = ""


class Scores(Frozen):
    """One sequence as a configuration scores it, position by position from its `first` on.

    Attributes:
        logprobs: ln of the probability of the token that is there.
        top_ids: The likeliest tokens, the likeliest first.
        top_logprobs: ln of their probabilities.
    """

    logprobs: tuple[float, ...]
    top_ids: tuple[tuple[int, ...], ...]
    top_logprobs: tuple[tuple[float, ...], ...]


class NotScored(Frozen):
    """Why a configuration's answers cannot be judged.

    Attributes:
        kind: The engine gives no log probabilities; they are not numbers; its vocabulary is another; or it failed.
        detail: One line.
    """

    kind: Literal["not offered", "not numbers", "other vocabulary", "failed"]
    detail: str


class Interval(Frozen):
    """A mean over positions with its interval by prompt; without one where there is a single prompt."""

    mean: float
    low: float | None
    high: float | None


class Figures(Frozen):
    """How far a configuration's scores are from the reference's.

    Attributes:
        kl_nats: Mean Kullback-Leibler divergence, in nats: over the tokens that are among the likeliest of both, the
            rest as one token. It is a lower bound of that over the whole vocabulary.
        log_loss_nats: Mean decrease of ln p of the token that is there.
        perplexity_increase: The same as a share of the perplexity.
        agreement: Share of positions at which the likeliest token is the same.
    """

    kl_nats: Interval
    log_loss_nats: Interval
    perplexity_increase: Interval
    agreement: Interval


class Changed(Frozen):
    """A prompt whose scores changed most; its texts come from the workload and the model.

    Attributes:
        prompt: The end of the prompt.
        answer: The reference's answer, its beginning.
        kl_nats: Mean over its positions.
        perplexity_increase: Of this prompt.
    """

    prompt: str
    answer: str
    kl_nats: float
    perplexity_increase: float


class Limits(Frozen):
    """What a configuration may do to answers.

    Attributes:
        max_loss: Most increase of perplexity over the noise floor, a share; 0 allows no more than the floor.
        min_agreement: Least share of positions whose likeliest token agrees; None sets no limit.
    """

    max_loss: float = Field(default=0.01, ge=0)
    min_agreement: float | None = Field(default=None, ge=0, le=1)


class LimitOptions(BaseModel):
    """The flags of every command that checks answers.

    Attributes:
        max_quality_loss: Most increase of perplexity over the noise floor, a share; 0 allows nothing over it.
        min_agreement: Least share of positions whose likeliest token is the reference's; None sets no limit.
    """

    max_quality_loss: float = Field(default=0.01, ge=0)
    min_agreement: float | None = Field(default=None, ge=0, le=1)

    @field_validator("max_quality_loss", "min_agreement", mode="before")
    @classmethod
    def _shares(cls, given: object) -> object:
        """`1%` or 0.01; 0 and 100% too. A bare 1 may mean either."""
        ends = {"0": 0.0, "0%": 0.0, "0.0": 0.0, "100%": 1.0, "1.0": 1.0}
        text = str(given).strip()
        if text == "1":
            raise ValueError("write 1% or 100%")
        return given if given is None else ends[text] if text in ends else parse_share(text)

    @property
    def limits(self) -> Limits:
        """What a configuration may do to answers."""
        return Limits(max_loss=self.max_quality_loss, min_agreement=self.min_agreement)


class Check(Frozen):
    """A configuration's verdict.

    Attributes:
        checked: The configuration.
        verdict: `open` where the most prompts did not decide: it counts as failed.
        why: In a sentence.
        failure: Why there are no figures; None where there are.
        limits: What it was held against.
        figures: Of the configuration against the reference.
        floor: Of the reference against itself, in another order and other batches.
        n_prompts: How many were scored.
        n_positions: How many tokens.
        worst: The prompts that changed most.
        launch_number: The last launch that was made for it, or that it used.
        launch_s: Seconds of launches that only the check needed.
        score_s: Seconds of answering and scoring.
    """

    checked: Config
    verdict: Verdict
    why: str
    failure: NotScored | None = None
    limits: Limits = Limits()
    figures: Figures | None = None
    floor: Figures | None = None
    n_prompts: int = 0
    n_positions: int = 0
    worst: tuple[Changed, ...] = ()
    launch_number: int = 0
    launch_s: float = 0.0
    score_s: float = 0.0


class _Prompt(NamedTuple):
    """Sums over the positions of one prompt."""

    n: int
    kl: float
    loss: float
    agreed: int


@dataclass(frozen=True)
class Decision:
    """What the prompts so far say; `open` where more of them may decide."""

    verdict: Literal["pass", "fail", "open"]
    why: str


def kl_nats(reference: dict[int, float], other: dict[int, float]) -> float:
    """KL(reference ‖ other) of two lists of the likeliest tokens, the tokens that are not in both as one bucket.

    Args:
        reference: Token → ln p.
        other: The same of the other configuration.
    """
    shared = reference.keys() & other.keys()
    total = left = others_left = 0.0
    for token in shared:
        p = math.exp(reference[token])
        total += p * (reference[token] - other[token])
        left += p
        others_left += math.exp(other[token])
    rest, others_rest = max(0.0, 1.0 - left), max(1e-9, 1.0 - others_left)
    if rest > 0:
        total += rest * math.log(rest / others_rest)
    return max(0.0, total)


def compare(reference: Sequence[Scores], other: Sequence[Scores], level: float = 0.95) -> Figures:
    """How far scores are from the reference's, over the same sequences.

    Args:
        reference: One a prompt.
        other: The same prompts, in the same order.
        level: Two-sided level of the intervals.

    Raises:
        ValueError: They are not of the same sequences.
    """
    return _figures([_of_prompt(r, o) for r, o in zip(reference, other, strict=True)], level)


def look_level(looks: Sequence[int] = LOOKS) -> float:
    """Two-sided level of one look's interval: the error is split evenly over the looks (Bonferroni)."""
    return 1 - 2 * ERROR / len(looks)


def decide(
    reference: Sequence[Scores], again: Sequence[Scores], candidate: Sequence[Scores], limits: Limits
) -> Decision:
    """Whether a candidate keeps the limits, as far as these prompts tell.

    Its increase of perplexity is taken over the reference's own second scores, prompt by prompt. What the reference
    itself changes (the upper end of its interval) is allowed too: of that nobody can be better.

    Args:
        reference: The reference's scores, one a prompt.
        again: Its scores in another order and other batches: the noise floor.
        candidate: The candidate's scores.
        limits: What is allowed.
    """
    level = look_level()
    floor = compare(reference, again, level)
    figures = compare(reference, candidate, level)
    over = compare(again, candidate, level).perplexity_increase
    if over.low is None or over.high is None:
        return Decision("open", "one prompt gives no interval")
    allowed = limits.max_loss + max(0.0, floor.perplexity_increase.high or 0.0)
    checks = [(over.low, over.high, allowed, f"perplexity {over.low:+.2%} to {over.high:+.2%}, limit {allowed:.2%}")]
    if limits.min_agreement is not None:
        agreed, least = figures.agreement, min(limits.min_agreement, floor.agreement.mean)
        low, high = agreed.low or 0.0, agreed.high if agreed.high is not None else 1.0
        checks.append((-high, -low, -least, f"agreement {low:.1%} to {high:.1%}, least {least:.1%}"))
    failed = [text for low, _, limit, text in checks if low > limit]
    if failed:
        return Decision("fail", "; ".join(failed))
    if undecided := [text for _, high, limit, text in checks if high > limit]:
        return Decision("open", "; ".join(undecided))
    return Decision("pass", "; ".join(text for *_, text in checks))


def worst_prompts(
    sequences: Sequence[Answered], reference: Sequence[Scores], candidate: Sequence[Scores]
) -> tuple[Changed, ...]:
    """The prompts that changed most, by divergence."""
    found = [(_of_prompt(r, c), answered) for answered, r, c in zip(sequences, reference, candidate, strict=True)]
    found = [(prompt, answered) for prompt, answered in found if prompt.n and prompt.kl > 0]
    order = sorted(found, key=lambda pair: -pair[0].kl / pair[0].n)
    return tuple(
        Changed(
            prompt=answered.prompt[-_SHOWN_CHARACTERS:],
            answer=answered.answer[:_SHOWN_CHARACTERS],
            kl_nats=prompt.kl / prompt.n,
            perplexity_increase=_share(prompt.loss / prompt.n),
        )
        for prompt, answered in order[:_WORST_PROMPTS]
    )


def _of_prompt(reference: Scores, other: Scores) -> _Prompt:
    if len(reference.logprobs) != len(other.logprobs):
        raise ValueError("scores of different sequences cannot be compared")
    kl, agreed = 0.0, 0
    for ids, logprobs, other_ids, other_logprobs in zip(
        reference.top_ids, reference.top_logprobs, other.top_ids, other.top_logprobs, strict=True
    ):
        kl += kl_nats(dict(zip(ids, logprobs, strict=True)), dict(zip(other_ids, other_logprobs, strict=True)))
        agreed += _likeliest(ids, logprobs, other_ids)
    return _Prompt(len(reference.logprobs), kl, math.fsum(reference.logprobs) - math.fsum(other.logprobs), agreed)


def _likeliest(ids: Sequence[int], logprobs: Sequence[float], other_ids: Sequence[int]) -> bool:
    """Whether the other's likeliest token is the reference's, or one that the reference finds exactly as likely."""
    return any(token == other_ids[0] and value == logprobs[0] for token, value in zip(ids, logprobs, strict=True))


def _figures(prompts: Sequence[_Prompt], level: float) -> Figures:
    counts = [prompt.n for prompt in prompts]

    def over(of: Callable[[_Prompt], float], interval: _ByCluster = cluster_t_interval) -> Interval:
        mean, low, high = interval([of(prompt) for prompt in prompts], counts, level)
        return Interval(mean=mean, low=low, high=high)

    loss, kl = over(lambda prompt: prompt.loss), over(lambda prompt: prompt.kl)
    share = Interval(
        mean=_share(loss.mean),
        low=None if loss.low is None else _share(loss.low),
        high=None if loss.high is None else _share(loss.high),
    )
    return Figures(
        kl_nats=kl.model_copy(update={"low": None if kl.low is None else max(0.0, kl.low)}),  # it is never negative
        log_loss_nats=loss,
        perplexity_increase=share,
        agreement=over(lambda prompt: prompt.agreed, cluster_share_interval),
    )


def _share(log_loss_nats: float) -> float:
    """An increase of perplexity as a share; capped far above anything that matters."""
    return math.expm1(min(log_loss_nats, 100.0))
