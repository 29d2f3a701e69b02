"""The proof of a tune: which finalist is the best, and is it better than what is to be beaten; no launch too many."""

import math

from infertune.domain.knobs import Config
from infertune.runs.summary import final_rounds, nothing_beside_default
from infertune.runs.whole_rounds import failed_in, on_one_device
from infertune.search import Predictor, Result, Standing, standing
from infertune.sequential import INDIFFERENCE, TRUST, looks_within, rounds_asked
from infertune.tuning.answers import Answers
from infertune.tuning.budget import Budget
from infertune.tuning.rounds import Rounds
from infertune.tuning.trials import Trials

_SHARE_OF_GAIN = 0.05  # of the expected gain: rivals that differ by less are not worth a launch; judgement


class ProofPhase:
    """Confirmation and final comparison, on fresh launches and unseen prompts; each continues where the ledger ends.

    Every further launch must be able to change the answer: rivals are told apart only while the wrong choice would cost
    more than the indifference, and the comparison ends at the first look that decides it.
    """

    def __init__(self, trials: Trials, budget: Budget, answers: Answers, predictor: Predictor | None = None) -> None:
        self._trials = trials
        self._answers = answers
        self._budget = budget
        self._predictor = predictor
        self._trust = TRUST[trials.request.trust]
        self._why_no_winner = ""
        self._confirmation = Rounds(trials, "confirm", after=answers.look)

    def confirm(self) -> Config | None:
        """The configuration to compare with the base, which answers as well; None where none is expected to be better.

        One whose answers are worse is rejected, with all that share its lossy settings; the next best leads. Where a
        final comparison has begun, its winner stays.
        """
        if (winner := self._compared()) is not None:
            return winner
        while (leader := self._leader()) is not None:
            if self._answers.keeps(leader):
                return leader
        return None

    def _leader(self) -> Config | None:
        """The configuration that may be compared with the base; None where nothing is expected to be better than it.

        Best-arm identification with an indifference zone: each rival and the base once on a fresh launch, whoever can
        no longer be the best drops out, until the expected loss of taking the leader (expected value of perfect
        information; Frazier, A tutorial on Bayesian optimization, 2018) is below 1% or a twentieth of the gain.
        """
        trials, asked = self._trials, self._trials.request.confirm_launches
        most = self._trust.rounds if asked is None else asked
        rivals: tuple[Config, ...] | None = None
        for number in range(most + 1):
            stand = self._standing(rivals, number)
            if stand is None or stand.leader == trials.base:
                self._why_no_winner = "nothing is expected to be better than what is to be beaten"
                if nothing_beside_default(trials.ledger):
                    self._why_no_winner = "nothing but what is to be beaten was tried"
                return None
            if number and asked is None and stand.gain < math.log1p(INDIFFERENCE):
                self._why_no_winner = f"no finalist is expected to gain {INDIFFERENCE:.0%}"
                return None
            rivals = self._kept(stand, number)
            if len(rivals) == 1 or number == most or (asked is None and self._settled(stand)):
                return stand.leader
            compared = {trials.base, stand.leader, trials.ledger.header.ported} - {None}
            wanted = 1 + len(rivals) + self._budget.fewest_final_launches(len(compared))
            # A resumed run takes no other way than before, whatever its budget is now.
            begun = any(trial.round_number == number for trial in trials.of("confirm"))
            decided = bool(trials.of("final")) and not trials.out("final")
            if not begun and (decided or not self._budget.has_room_for(wanted)):
                return stand.leader
            trials.observer.phase(f"confirm, round {number + 1}: which of {len(rivals)} is the best", 1 + len(rivals))
            self._confirmation.measure([trials.base, *rivals], [number])
        return None

    def compare(self, winner: Config | None) -> str:
        """Launch the winner and the base in turn until a look decides: the figures that are reported. Why it ended.

        A winner whose launches fail is out, and the next best is confirmed and compared while the budget has room.
        """
        dropped = ""
        while True:
            why = self._compare(winner)
            out = self._trials.out("final")
            if winner not in out or self._trials.base in out:
                return f"{dropped}{why}"
            self._trials.observer.note(f"{winner} is out: its launches in the final comparison failed")
            if not self._budget.has_room_for(self._budget.fewest_final_launches(2)):
                return f"{dropped}{why}; the budget has no room for the next best"
            dropped += f"{why}; "
            winner = self.confirm()

    def _compare(self, winner: Config | None) -> str:
        """Compare one winner with the base; why it ended.

        A configuration that was brought from elsewhere is launched in turn with both, and so is the engine's default
        where another configuration runs today. Launches of the base in the confirmation count; the winner's do not,
        since they were what it was chosen by.
        """
        trials = self._trials
        least, most = rounds_asked(self._trust, trials.request.final_launches)
        out = trials.out("final")
        beside = [config for config in self._beside(winner) if config not in out and self._answers.keeps(config)]
        others = [config for config in (*beside, winner) if config not in (None, trials.base)]
        configs = list(dict.fromkeys([trials.base, *others]))
        if len(configs) == 1:
            return self._why_no_winner
        looks = looks_within(self._trust, least, most)
        trials.observer.phase("final comparison: is it better", len(configs) * most)
        rounds, first, number = Rounds(trials, "final"), self._first_round(winner or configs[-1]), 0
        while number < most:
            batch = self._batch(number, looks)
            rounds.measure(configs, [first + n for n in batch])
            number = batch.stop
            out = trials.out("final")
            if failed := [config for config in (trials.base, winner) if config in out]:
                return f"a launch of the final comparison failed: {failed[0]}"
            configs = [config for config in configs if config not in out]
            if len(configs) == 1:
                return f"a launch of the final comparison failed, and {self._why_no_winner}"
            final = final_rounds(trials.ledger, trials.objective)
            if final and final.n == number and number in looks:  # a resumed run has no look that the first had not
                decision = final.decision()
                if decision.ends:
                    return decision.why
            if number >= least and not self._budget.has_room_for(len(configs)):
                return "the time budget was used up"
        return f"all {most} rounds were made"

    def _batch(self, number: int, looks: tuple[int, ...]) -> range:
        """The rounds to make from a number on: one for each device, up to the next look."""
        until = next(look for look in looks if look > number)
        return range(number, min(until, number + max(1, len(self._trials.crew.devices))))

    def _compared(self) -> Config | None:
        """The winner of the final comparison that has begun; None where there is none, or it was known before."""
        header = self._trials.ledger.header
        others = {self._trials.base, header.ported, header.stock, *self._trials.out("final")}
        return next((t.config for t in reversed(self._trials.of("final")) if t.config not in others), None)

    def _first_round(self, winner: Config) -> int:
        """Where the rounds of a winner begin: behind those of winners before it, which the base was launched in."""
        finals = self._trials.of("final")
        if not self._trials.out("final"):
            return 0
        own = [trial.round_number for trial in finals if trial.config == winner]
        return min(own) if own else 1 + max(trial.round_number for trial in finals)

    def _standing(self, rivals: tuple[Config, ...] | None, rounds: int) -> Standing | None:
        """Where the rivals stand after some rounds of the confirmation, of those that kept every limit."""
        trials = self._trials
        confirmed = [trial for trial in on_one_device(trials.of("confirm")) if trial.round_number < rounds]
        by_round: dict[int, list[Result]] = {}
        for trial in confirmed:
            if not self._answers.rejects(trial.config):
                by_round.setdefault(trial.round_number, []).append(trials.result(trial, rounds))
        out = trials.out("final") | failed_in(confirmed, trials.objective)
        out |= {trial.config for trial in confirmed if trial.measurement and trials.score(trial) is None}
        searched = [trials.result(trial, rounds) for trial in trials.of("search")]
        among = None if rivals is None else set(rivals)
        return standing(
            trials.space,
            [r for r in searched if r.config not in out and not self._answers.rejects(r.config)],
            by_round.values(),
            base=trials.base,
            among=among,
            predictor=self._predictor,
        )

    def _kept(self, stand: Standing, number: int) -> tuple[Config, ...]:
        """The likeliest rivals, as many as `--finalists` allows, and those that were launched in this round before."""
        likeliest = [config for config in stand.rivals if config != stand.leader]
        kept = (stand.leader, *likeliest[: self._trials.request.finalists - 1])
        begun = [trial.config for trial in self._trials.of("confirm") if trial.round_number == number]
        return tuple(dict.fromkeys((*kept, *(c for c in begun if c in stand.order and c != self._trials.base))))

    def _settled(self, stand: Standing) -> bool:
        """Whether taking the leader loses less than a launch is worth."""
        return stand.expected_loss < max(math.log1p(INDIFFERENCE), _SHARE_OF_GAIN * stand.gain)

    def _beside(self, winner: Config | None) -> list[Config]:
        """What is compared besides, if it runs here: what was best elsewhere, and the engine's default.

        The default's launches cannot change the answer: where another configuration runs today and the budget has no
        room for the fewest rounds of all, it is left out.
        """
        header, trials = self._trials.ledger.header, self._trials
        ran = {trial.config for trial in trials.ledger.trials if trial.measurement}
        beside = [config for config in (header.ported, header.stock) if config in ran]
        if header.stock not in beside or header.stock in (winner, header.ported):
            return beside
        begun = {trial.config for trial in trials.of("final")}
        compared = {trials.base, winner, *beside} - {None}
        room = self._budget.has_room_for(self._budget.fewest_final_launches(len(compared)))
        if header.stock in begun or (not begun and room):
            return beside
        trials.observer.note("the budget has no room for the engine's default in the final comparison: it is left out")
        return [config for config in beside if config != header.stock]
