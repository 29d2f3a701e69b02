"""What configurations do to answers: the figures, their intervals, and the verdict."""

import math
import random
from collections.abc import Sequence

import pytest

from infertune.domain.quality import Answered, Limits, Scores, compare, decide, kl_nats, worst_prompts
from infertune.stats import cluster_t_interval


def scores(logprobs: Sequence[float], likeliest: Sequence[int] | None = None) -> Scores:
    """Positions at which the actual token is 7, or another is likelier."""
    ids = tuple((token, 9) for token in likeliest or [7] * len(logprobs))
    tops = tuple((value, -9.0) for value in logprobs)
    return Scores(logprobs=tuple(logprobs), top_ids=ids, top_logprobs=tops)


def prompts(n: int, loss: float, spread: float, seed: int = 0) -> list[Scores]:
    """n prompts of 10 positions whose ln p is lower by a loss that differs between prompts."""
    rng = random.Random(seed)
    return [scores([-1.0 - loss - rng.gauss(0, spread)] * 10) for _ in range(n)]


def test_equal_scores_differ_in_nothing() -> None:
    one = prompts(8, 0.0, 0.3)
    figures = compare(one, one)
    assert (figures.kl_nats.mean, figures.perplexity_increase.mean, figures.agreement.mean) == (0.0, 0.0, 1.0)
    assert figures.perplexity_increase.low == figures.perplexity_increase.high == 0.0


def test_divergence_is_that_of_the_shared_tokens_and_the_rest() -> None:
    p, q = (
        {1: math.log(0.5), 2: math.log(0.3), 3: math.log(0.1)},
        {1: math.log(0.4), 2: math.log(0.4), 4: math.log(0.1)},
    )
    expected = 0.5 * math.log(0.5 / 0.4) + 0.3 * math.log(0.3 / 0.4) + 0.2 * math.log(0.2 / 0.2)
    assert kl_nats(p, q) == pytest.approx(expected)
    assert kl_nats(p, {5: 0.0}) == 0.0, "nothing shared says nothing"


def test_divergence_is_never_above_that_of_the_whole_vocabulary() -> None:
    rng = random.Random(1)
    for _ in range(100):
        sides = [[rng.gauss(0, 2) for _ in range(30)] for _ in range(2)]
        p, q = ([w - math.log(sum(map(math.exp, side))) for w in side] for side in sides)
        whole = sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
        tops = [dict(sorted(enumerate(side), key=lambda pair: -pair[1])[:8]) for side in (p, q)]
        assert 0 <= kl_nats(*tops) <= whole + 1e-9


def test_the_perplexity_rises_by_the_loss_of_log_probability() -> None:
    figures = compare(prompts(4, 0.0, 0.0), prompts(4, 0.02, 0.0))
    assert figures.log_loss_nats.mean == pytest.approx(0.02)
    assert figures.perplexity_increase.mean == pytest.approx(math.expm1(0.02))


def test_agreement_counts_positions_and_a_tie_is_no_disagreement() -> None:
    reference = [scores([-1.0] * 4, [7, 7, 7, 7])]
    other = [scores([-1.0] * 4, [7, 8, 7, 7])]
    assert compare(reference, other).agreement.mean == 0.75
    tie = [Scores(logprobs=(-1.0,), top_ids=((7, 9),), top_logprobs=((-1.0, -1.0),))]
    swapped = [Scores(logprobs=(-1.0,), top_ids=((9, 7),), top_logprobs=((-1.0, -1.0),))]
    assert compare(tie, swapped).agreement.mean == 1.0


def test_the_interval_is_by_prompt_and_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(400):
        rng = random.Random(seed)
        sizes = [rng.randint(5, 60) for _ in range(16)]
        sums = [size * rng.gauss(0.5, 0.2) for size in sizes]
        _, low, high = cluster_t_interval(sums, sizes)
        assert low is not None and high is not None
        held += low <= 0.5 <= high
    assert 0.91 <= held / 400 <= 0.98
    assert cluster_t_interval([3.0], [6]) == (0.5, None, None)
    with pytest.raises(ValueError, match="at least one item"):
        cluster_t_interval([], [])


@pytest.mark.parametrize(
    ("loss", "spread", "verdict"),
    [(0.0, 0.002, "pass"), (0.03, 0.002, "fail"), (0.01, 0.02, "open"), (-0.05, 0.002, "pass")],
)
def test_the_verdict_waits_until_the_interval_is_on_one_side(loss: float, spread: float, verdict: str) -> None:
    reference = prompts(16, 0.0, 0.0)
    assert decide(reference, reference, prompts(16, loss, spread, 2), Limits(max_loss=0.01)).verdict == verdict


def test_no_loss_allowed_passes_equal_scores_and_no_others() -> None:
    reference = prompts(16, 0.0, 0.0)
    assert decide(reference, reference, reference, Limits(max_loss=0)).verdict == "pass"
    assert decide(reference, reference, prompts(16, 0.001, 0.0001, 3), Limits(max_loss=0)).verdict == "fail"


def test_what_the_reference_itself_changes_is_allowed_too() -> None:
    reference, again = prompts(16, 0.0, 0.0), prompts(16, 0.0, 0.01, 4)
    noisy = [scores([value - 0.002 for value in one.logprobs]) for one in again]
    assert decide(reference, again, noisy, Limits(max_loss=0.001)).verdict == "pass"
    assert decide(reference, reference, noisy, Limits(max_loss=0.001)).verdict != "pass"


def test_agreement_is_a_limit_where_it_is_asked_for() -> None:
    reference = [scores([-1.0] * 20) for _ in range(16)]
    other = [scores([-1.0] * 20, [8, 8, *[7] * 18]) for _ in range(16)]
    assert decide(reference, reference, other, Limits()).verdict == "pass"
    found = decide(reference, reference, other, Limits(min_agreement=0.97))
    assert found.verdict == "fail" and "agreement 85.0% to 93.5%, least 97.0%" in found.why


@pytest.mark.parametrize("disagreeing", [[0] * 15 + [1], [0] * 16, [1] * 16, [20] * 16])
def test_no_interval_leaves_the_range_of_its_figure(disagreeing: list[int]) -> None:
    reference = [scores([-1.0] * 20) for _ in disagreeing]
    other = [scores([-1.0 - 0.01 * n] * 20, [8] * n + [7] * (20 - n)) for n in disagreeing]
    found = compare(reference, other, 0.99)
    agreed, kl = found.agreement, found.kl_nats
    assert agreed.low is not None and agreed.high is not None and kl.low is not None
    assert 0 <= agreed.low <= agreed.mean <= agreed.high <= 1
    assert kl.low >= 0
    assert agreed.low < agreed.high, "a share of a sample is never known exactly"


def test_one_prompt_decides_nothing() -> None:
    one = prompts(1, 0.0, 0.0)
    assert decide(one, one, one, Limits()).verdict == "open"


def test_the_prompts_that_changed_most_come_first() -> None:
    sequences = [
        Answered(token_ids=(1, 2), first=1, prompt_tokens=1, prompt=f"p{n}" * 300, answer="a") for n in range(3)
    ]
    reference = [scores([-1.0] * 4)] * 3
    other = [scores([-1.0 - loss] * 4) for loss in (0.0, 0.3, 0.1)]
    found = worst_prompts(sequences, reference, other)
    assert [one.prompt[-2:] for one in found] == ["p1", "p2"]
    assert found[0].perplexity_increase == pytest.approx(math.expm1(0.3)) and len(found[0].prompt) <= 240
