"""The quality guard: lets a reference answer, and scores configurations against these answers.

The reference answers once, and scores its answers twice: in order, and backwards in smaller batches, which is the noise
floor. A candidate scores the same tokens. Where its interval straddles the limit, more prompts are scored. The engine
that is loaded is used wherever it runs the right configuration; nothing of this counts as measured time.
"""

from collections.abc import Callable, Sequence

from infertune.bench.bench import Asked
from infertune.bench.channel import AnsweredReply, ScoredReply
from infertune.bench.crew import Answering
from infertune.domain.knobs import Config
from infertune.domain.quality import (
    LOOKS,
    Answered,
    Check,
    Limits,
    NotScored,
    Scores,
    Verdict,
    compare,
    decide,
    worst_prompts,
)
from infertune.domain.workload import Request

_EASY_S = 10.0  # while the reference of twice as many prompts takes less, they are taken at once (judgement)


class Guard:
    """Checks configurations against one reference."""

    def __init__(
        self,
        bench: Answering,
        reference: Config,
        requests: Sequence[Request],
        limits: Limits,
        unseen: Callable[[str], bool] = lambda name: False,
    ) -> None:
        """A guard whose reference has not answered yet.

        Args:
            bench: Where the reference runs.
            reference: Its configuration.
            requests: What it answers; further ones are taken as they are needed.
            limits: What a configuration may do to answers.
            unseen: Whether a setting changes answers in a way that the engine's scores do not see.
        """
        self._unseen = unseen
        self._bench = bench
        self._reference_config = reference
        self._requests = list(requests)[: LOOKS[-1]]
        self._limits = limits
        self._looks = [n for n in LOOKS if n < len(self._requests)] + [len(self._requests)]
        self._used = 0
        self._vocabulary = ""
        self._answered: list[Answered] = []
        self._reference: list[Scores] = []
        self._again: list[Scores] = []
        self._failure: NotScored | None = None
        self._launch_s = self._score_s = 0.0
        self._reference_s = self._slowest_launch_s = 0.0

    def refer(self, other: Answering | None = None) -> NotScored | None:
        """Let the reference answer the first prompts, and as many more as cost little; why it cannot, if so.

        Args:
            other: A bench whose engine has to go before the reference's can be launched.
        """
        while self._used < self._looks[-1] and self._failure is None:
            n = next(look for look in self._looks if look > self._used)
            if self._used and self._score_s * (n / self._used - 1) > _EASY_S:
                break
            self._extend(n, other)
        return self._failure

    def check(self, config: Config, bench: Answering | None = None) -> Check:
        """Score the reference's answers with a configuration until they are decided.

        Args:
            config: All knobs.
            bench: Where it runs, if not where the reference does.
        """
        bench = bench or self._bench
        if failure := self._hidden(config):
            return self._unchecked(config, failure, "not checked", bench, 0.0, 0.0)
        if not self._used:
            self.refer(bench)
        scores: list[Scores] = []
        launch_s, score_s = self._launch_s, self._score_s  # the reference's cost is the first check's
        self._launch_s = self._score_s = 0.0
        verdict: Verdict = "not checked"
        why, failure = "", self._failure
        for look in self._looks:
            if look > self._used:
                self._extend(self._worth(look), bench)
                launch_s, score_s = launch_s + self._launch_s, score_s + self._score_s
                self._launch_s = self._score_s = 0.0
            if failure := self._failure:
                break
            if bench is not self._bench:
                self._bench.close()
            asked = bench.score(config, self._answered[len(scores) : look], self._vocabulary)
            launch_s, score_s = launch_s + asked.launch_s, score_s + asked.score_s
            self._slowest_launch_s = max(self._slowest_launch_s, asked.launch_s)
            if isinstance(asked.found, NotScored):
                failure = asked.found
                break
            assert isinstance(asked.found, ScoredReply)
            scores += asked.found.scores
            n = len(scores)
            decision = decide(self._reference[:n], self._again[:n], scores, self._limits)
            verdict, why = decision.verdict, decision.why
            if verdict != "open":
                break
        if failure is not None:
            wrong = failure is not self._failure and failure.kind in ("not numbers", "other vocabulary")
            verdict = "fail" if wrong else "not checked"
            return self._unchecked(config, failure, verdict, bench, launch_s, score_s)
        n = len(scores)
        return Check(
            checked=config,
            verdict=verdict,
            why=why if verdict != "open" else f"{why}: not decided after {n} prompts, which counts as failed",
            limits=self._limits,
            figures=compare(self._reference[:n], scores),
            floor=compare(self._reference[:n], self._again[:n]),
            n_prompts=n,
            n_positions=sum(len(one.logprobs) for one in scores),
            worst=worst_prompts(self._answered[:n], self._reference[:n], scores),
            launch_number=bench.next_launch - 1,
            launch_s=launch_s,
            score_s=score_s,
        )

    def _worth(self, look: int) -> int:
        """How many prompts the reference answers when it has to be launched again for a look.

        At least as many more as it answers and scores in the time of a launch, once one was seen: later looks then need
        no launch.
        """
        prompt_s = self._reference_s / max(1, self._used)
        enough = (n for n in self._looks if n >= look and (n - self._used) * prompt_s >= self._slowest_launch_s)
        return next(enough, self._looks[-1])

    def _hidden(self, config: Config) -> NotScored | None:
        """Why scores would say nothing of how a configuration differs from the reference; None if they do."""
        of_reference = self._reference_config.root
        changed = [name for name, value in config.root.items() if value != of_reference.get(name, "unset")]
        names = [name for name in changed if self._unseen(name)]
        if not names:
            return None
        return NotScored(kind="not offered", detail=f"scores do not see what {', '.join(names)} does to answers")

    def _unchecked(
        self, config: Config, failure: NotScored, verdict: Verdict, bench: Answering, launch_s: float, score_s: float
    ) -> Check:
        return Check(
            checked=config,
            verdict=verdict,
            why=failure.detail,
            failure=failure,
            limits=self._limits,
            launch_number=max(0, bench.next_launch - 1),
            launch_s=launch_s,
            score_s=score_s,
        )

    def _extend(self, n: int, other: Answering | None) -> None:
        """Answers and the reference's two scores of further prompts, n in all."""
        if other is not None and other is not self._bench:
            other.close()
        config, requests = self._reference_config, self._requests[self._used : n]
        self._used = n
        found = self._asked(self._bench.answer(config, requests))
        if not isinstance(found, AnsweredReply):
            return
        self._vocabulary = found.vocabulary
        if not found.answered and not self._answered:
            self._failure = NotScored(kind="failed", detail="the reference answers no prompt with any token")
            return
        forwards = self._asked(self._bench.score(config, found.answered, found.vocabulary))
        if not isinstance(forwards, ScoredReply):
            return
        batch = max(1, len(found.answered) // 4)
        backwards = self._asked(self._bench.score(config, found.answered[::-1], found.vocabulary, batch))
        if not isinstance(backwards, ScoredReply):
            return
        self._answered += found.answered
        self._reference += forwards.scores
        self._again += backwards.scores[::-1]

    def _asked(self, asked: Asked) -> AnsweredReply | ScoredReply | None:
        """What came back, its cost kept; None where it failed, which is kept too."""
        self._launch_s += asked.launch_s
        self._score_s += asked.score_s
        self._reference_s += asked.score_s
        self._slowest_launch_s = max(self._slowest_launch_s, asked.launch_s)
        if isinstance(asked.found, NotScored):
            detail = f"the reference: {asked.found.detail}"
            self._failure = asked.found.model_copy(update={"detail": detail})
            return None
        return asked.found
