"""Noise, steps, plateau and peaks of a landscape, each with its test.

Two configurations are neighbours if they differ in one knob only and no configuration between them was tried.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from scipy.special import stdtr, stdtrit
from scipy.stats import studentized_range

from infertune.domain.knobs import Config, Knob, Scalar
from infertune.domain.objective import Objective
from infertune.domain.record import Record
from infertune.domain.trial import EXPLORING, Trial
from infertune.landscape.terrain import Noise, Peak, Plateau, Span, Spot, Step, Terrain

LEVEL = 0.95  # confidence level of every test
PLATEAU = 0.02  # below the best, as a share; judgement
_JUMP = math.log(1.05)  # smaller steps are not reported as cliffs, however significant; judgement
_ENOUGH_DEGREES = 3  # degrees of freedom below which no noise is stated; judgement
_ON_ONE_LAUNCH = " on one and the same launch, which understates it: nothing was launched twice"
Neighbours = list[tuple[int, int, Knob]]


def survey(record: Record, objective: Objective) -> Terrain:
    """A run's landscape with its statistics."""
    spots = _spots(record.trials, objective)
    values = {knob.name: {repr(spot.config[knob.name]) for spot in spots} for knob in record.header.space.knobs}
    knobs = tuple(knob for knob in record.header.space.knobs if len(values[knob.name]) > 1)
    grid = math.prod(len(knob.values) for knob in record.header.space.knobs)
    if record.header.command == "landscape" and record.ending is not None:
        grid = len(spots)  # a finished grid has every combination that the rules allow
    return terrain_of(spots, knobs, grid, _noise(record.trials, objective), -1 if objective.lower_is_better else 1)


def terrain_of(
    spots: tuple[Spot, ...], knobs: tuple[Knob, ...], grid: int, noise: Noise | None, sign: int = 1
) -> Terrain:
    """The statistics of measured points.

    Args:
        spots: Every configuration that was tried.
        knobs: Knobs that took more than one value.
        grid: Combinations of the space.
        noise: The spread of repeats; None if nothing was repeated.
        sign: -1 where less of the figure is better, which turns the factors of steps around.
    """
    neighbours = _neighbours(spots, knobs)
    bare = Terrain(knobs=knobs, spots=spots, grid=grid, noise=noise, steps=(), plateau=None, peaks=())
    if not bare.measured:
        return bare
    return bare.model_copy(
        update={
            "steps": _steps(spots, neighbours, noise, sign),
            "plateau": _plateau(bare, neighbours),
            "peaks": _peaks(bare, neighbours) if bare.mapped else (),
        }
    )


def _spots(trials: Iterable[Trial], objective: Objective) -> tuple[Spot, ...]:
    scores: dict[Config, list[float]] = {}
    failed: dict[Config, int] = defaultdict(int)
    for trial in trials:
        if trial.phase not in EXPLORING:
            continue
        scores.setdefault(trial.config, [])
        if trial.measurement is None:
            failed[trial.config] += 1
        elif (score := objective.score(trial.measurement)) is not None:
            scores[trial.config].append(score)
    return tuple(Spot(config=c, scores=tuple(found), failed=failed[c]) for c, found in scores.items())


def _noise(trials: Sequence[Trial], objective: Objective) -> Noise | None:
    """Pooled standard deviation within configurations: of exploring trials, else the confirmation, else windows."""
    exploring: dict[object, list[float]] = defaultdict(list)
    confirming: dict[object, list[float]] = defaultdict(list)
    windows: dict[object, list[float]] = defaultdict(list)
    launches: dict[object, set[int]] = defaultdict(set)
    for trial in trials:
        if trial.measurement and (figure := objective.figure(trial.measurement)):
            group = exploring if trial.phase in EXPLORING else confirming
            group[trial.phase, trial.config].append(objective.score_of(figure))
            launches[trial.config].add(trial.launch_number)
            if objective.name == "throughput":  # other figures are known for a whole launch only
                windows[trial.number] = [math.log(w.output_tokens_per_s) for w in trial.measurement.windows]
    apart = any(len(numbers) > 1 for numbers in launches.values())
    for groups, source in (
        (exploring, "repeats of one configuration" + ("" if apart else _ON_ONE_LAUNCH)),
        (confirming, "repeats in the confirmation and the final comparison"),
        (windows, "windows of one launch, which understates it: nothing was launched twice"),
    ):
        if (noise := noise_within(groups.values(), source)) is not None:
            return noise
    return None


def noise_within(groups: Iterable[Sequence[float]], source: str) -> Noise | None:
    """The pooled standard deviation of scores within groups; None with too few degrees of freedom.

    Args:
        groups: The scores of each configuration's repeats.
        source: Which repeats they are, in words.
    """
    found = [group for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in found)
    if degrees < _ENOUGH_DEGREES:
        return None
    squares = sum((value - sum(group) / len(group)) ** 2 for group in found for value in group)
    return Noise(deviation=math.sqrt(squares / degrees), degrees=degrees, source=source)


def _neighbours(spots: Sequence[Spot], knobs: Sequence[Knob]) -> Neighbours:
    """Pairs of neighbours, as indices of `spots` with the knob; of a choice, any two values are neighbours."""
    pairs: Neighbours = []
    for knob in knobs:
        position = {repr(value): n for n, value in enumerate(knob.values)}
        lines: dict[str, list[int]] = defaultdict(list)
        for n, spot in enumerate(spots):
            lines[Config({k: v for k, v in spot.config.root.items() if k != knob.name}).key].append(n)
        for line in lines.values():
            line.sort(key=lambda n: position[repr(spots[n].config[knob.name])])
            for at, low in enumerate(line):
                highs = line[at + 1 : at + 2] if knob.ordinal else line[at + 1 :]
                pairs += [(low, high, knob) for high in highs]
    return pairs


def _steps(spots: Sequence[Spot], neighbours: Neighbours, noise: Noise | None, sign: int) -> tuple[Step, ...]:
    """Steps with a jump or a failure.

    A pair jumps if its two means differ significantly (Student's t on the pooled noise, over all pairs at a false
    discovery rate of 5%; Benjamini & Hochberg, JRSS B 57, 1995) and by at least 5%. A pair more than one position apart
    on its ladder is left out if other pairs cover every position between.
    """
    neighbours = _adjacent_pairs(spots, neighbours)
    both = [(a, b, knob) for a, b, knob in neighbours if spots[a].scores and spots[b].scores]
    changes = [sign * (spots[b].score - spots[a].score) for a, b, _ in both]
    sure = [False] * len(both)
    if noise is not None:
        chances = []
        for (a, b, _), change in zip(both, changes, strict=True):
            error = noise.margin(len(spots[a].scores), len(spots[b].scores), 1.0)
            t = abs(change) / error if error else math.inf if change else 0.0
            chances.append(2 * float(stdtr(noise.degrees, -t)))
        sure = _discoveries(chances)
    grouped: dict[tuple[str, str, str], list[tuple[float, bool]]] = defaultdict(list)
    fails: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    ends: dict[tuple[str, str, str], tuple[str, Scalar, Scalar]] = {}
    for (a, b, knob), change, beyond in zip(both, changes, sure, strict=True):
        key = _ends(spots, a, b, knob, ends)
        grouped[key].append((change, beyond and abs(change) >= _JUMP))
    for a, b, knob in neighbours:
        if (spots[a].failed and spots[b].scores) or (spots[b].failed and spots[a].scores):
            fails[_ends(spots, a, b, knob, ends)].append(bool(spots[a].scores))
    steps = []
    for key, (name, low, high) in ends.items():
        found = sorted(change for change, _ in grouped[key])
        told = sorted(change for change, jump in grouped[key] if jump) or found
        step = Step(
            knob=name,
            low=low,
            high=high,
            ratio=math.exp((told[(len(told) - 1) // 2] + told[len(told) // 2]) / 2) if told else None,
            ratio_least=math.exp(found[0]) if found else None,
            ratio_most=math.exp(found[-1]) if found else None,
            pairs=len(found),
            jumps=sum(jump for _, jump in grouped[key]),
            starts_failing=sum(fails[key]),
            stops_failing=len(fails[key]) - sum(fails[key]),
        )
        if step.jumps or step.starts_failing or step.stops_failing:
            steps.append(step)
    return tuple(sorted(steps, key=lambda step: (-step.steepness, step.knob, str(step.low))))


def _adjacent_pairs(spots: Sequence[Spot], neighbours: Neighbours) -> Neighbours:
    """Pairs without those that span several positions of a ladder, each of which another pair covers alone."""
    positions = {knob.name: {repr(value): n for n, value in enumerate(knob.values)} for _, _, knob in neighbours}

    def span(a: int, b: int, knob: Knob) -> tuple[int, int]:
        ladder = positions[knob.name]
        return ladder[repr(spots[a].config[knob.name])], ladder[repr(spots[b].config[knob.name])]

    single: dict[str, set[int]] = defaultdict(set)
    for a, b, knob in neighbours:
        low, high = span(a, b, knob)
        if high - low == 1:
            single[knob.name].add(low)
    kept = []
    for a, b, knob in neighbours:
        low, high = span(a, b, knob)
        if not knob.ordinal or high - low == 1 or not single[knob.name].issuperset(range(low, high)):
            kept.append((a, b, knob))
    return kept


def _ends(
    spots: Sequence[Spot], a: int, b: int, knob: Knob, ends: dict[tuple[str, str, str], tuple[str, Scalar, Scalar]]
) -> tuple[str, str, str]:
    low, high = spots[a].config[knob.name], spots[b].config[knob.name]
    key = (knob.name, repr(low), repr(high))
    ends[key] = (knob.name, low, high)
    return key


def _discoveries(chances: Sequence[float]) -> list[bool]:
    """Which p-values are significant at a false discovery rate of 5%."""
    order = sorted(chances)
    passed = [p for n, p in enumerate(order, start=1) if p <= (1 - LEVEL) * n / len(order)]
    return [bool(passed) and p <= passed[-1] for p in chances]


def _plateau(terrain: Terrain, neighbours: Neighbours) -> Plateau:
    """The configurations within 2% of the best, and those that do not differ significantly from it.

    The second is a comparison with the best (Hsu, Annals of Statistics 9, 1981): one-sided t on the pooled noise, with
    Bonferroni's bound over the configurations.
    """
    best = terrain.measured[0]
    floor = best.score + math.log1p(-PLATEAU)
    inside = [n for n, spot in enumerate(terrain.spots) if spot.scores and spot.score >= floor]
    within = [terrain.spots[n] for n in inside]
    near: dict[int, list[int]] = {n: [] for n in inside}
    for a, b, _ in neighbours:
        if a in near and b in near:
            near[a].append(b)
            near[b].append(a)
    reached: set[int] = set()
    frontier = [max(inside, key=lambda n: terrain.spots[n].score)]
    while frontier:
        at = frontier.pop()
        if at not in reached:
            reached.add(at)
            frontier += near[at]
    level = None
    if noise := terrain.noise:
        others = max(1, len(terrain.measured) - 1)
        critical = float(stdtrit(noise.degrees, 1 - (1 - LEVEL) / others))
        level = sum(
            best.score - spot.score <= noise.margin(len(best.scores), len(spot.scores), critical)
            for spot in terrain.measured
        )
    spans = []
    for knob in terrain.knobs:
        here = {repr(spot.config[knob.name]) for spot in within}
        tried = {repr(spot.config[knob.name]) for spot in terrain.spots}
        spans.append(Span(knob=knob.name, values=tuple(v for v in knob.values if repr(v) in here), tried=len(tried)))
    return Plateau(within=len(within), connected=len(reached), level_with_best=level, spans=tuple(spans))


def _peaks(terrain: Terrain, neighbours: Neighbours) -> tuple[Peak, ...]:
    """Local maxima by their persistence.

    Configurations are added from the best down. Where two regions meet, the lower one's peak ends, and its height above
    the saddle where they meet is its prominence (Edelsbrunner, Letscher & Zomorodian, Topological Persistence and
    Simplification, 2002). A peak is significant if its prominence exceeds Tukey's studentized range over all means, for
    unequal numbers of repeats after Kramer (Biometrics 12, 1956).
    """
    spots = terrain.measured
    position = {spot.config: n for n, spot in enumerate(spots)}
    near: dict[int, list[int]] = defaultdict(list)
    for a, b, _ in neighbours:
        if terrain.spots[a].scores and terrain.spots[b].scores:
            first, second = position[terrain.spots[a].config], position[terrain.spots[b].config]
            near[max(first, second)].append(min(first, second))
    critical = 0.0
    if terrain.noise and len(spots) > 1:
        critical = _tukey(len(spots), terrain.noise.degrees)
    parent = list(range(len(spots)))
    ended: dict[int, int] = {}
    for at in range(len(spots)):
        roots = sorted({_root(parent, other) for other in near[at]})
        for root in roots[1:]:
            parent[root] = roots[0]
            ended[root] = at
        if roots:
            parent[at] = roots[0]
    peaks = []
    for at in [n for n in range(len(spots)) if parent[n] == n or n in ended]:
        saddle = ended.get(at)
        if saddle is None:
            peaks.append(Peak(config=spots[at].config, prominence=None, real=True if terrain.noise else None))
            continue
        drop = spots[at].score - spots[saddle].score
        real = None
        if terrain.noise:
            real = drop > terrain.noise.margin(len(spots[at].scores), len(spots[saddle].scores), critical)
        peaks.append(Peak(config=spots[at].config, prominence=math.exp(drop), real=real))
    return tuple(peaks)


@lru_cache
def _tukey(means: int, degrees: int) -> float:
    """Critical difference of two out of `means` means at the 5% level, in standard errors of the difference."""
    return float(studentized_range.ppf(LEVEL, means, degrees)) / math.sqrt(2)


def _root(parent: list[int], at: int) -> int:
    """The representative of a region (union-find with path halving)."""
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at
