"""The roofline: the peak rates of devices, the shape of its curve, and its fit to measurements."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infertune.domain.device import Device
from infertune.domain.knobs import Choice, FixedBatches, Int, Scalar, SearchSpace, doubling
from infertune.domain.models import Model
from infertune.domain.workload import Workload, parse_workload
from infertune.search.roofline import Array, Demand, Roofline, demand_of, peaks_of
from tests.builders import CPU, config

GIB = 1024**3
SLOTS = doubling(1, 1024)
OF = SearchSpace((Int("slots", SLOTS, 8, is_concurrency=True), Int("block", (16, 32), 16)))
# A prompt of nothing and 100 outputs: 50 tokens lie in the cache halfway.
DEMAND = Demand(
    weights_s=0.005, cache_s=lambda tokens: 0.0000004 * tokens, compute_s=0.00003, overhead_s=0.002,
    cache_room=lambda tokens: math.inf,
    prompts=np.zeros(512), outputs=np.full(512, 100.0),
)  # fmt: skip
SEVEN_B = Model(
    spec="builtin:qwen2.5-7b", name="qwen2.5-7b", path="nowhere", weights="dummy", config_hash="ab12",
    parameters=7_600_000_000, active_parameters=7_600_000_000, weight_bytes=15_200_000_000,
    kv_bytes_per_token=57_344, context_tokens=32768, vocab_size=152064, dtype="bfloat16",
)  # fmt: skip


def gpu(name: str, count: int = 1, gib: int = 80) -> Device:
    return Device(kind="gpu", name=name, count=count, memory_bytes=gib * GIB, cores=16)


def rates(roofline: Roofline, slots: tuple[int, ...] = SLOTS) -> Array:
    """Predicted tokens per second, up to a factor."""
    return np.exp(roofline.predict([config(slots=s, block=16) for s in slots]))


def demand(device: Device, workload: str | Workload = "synthetic:in=512,out=128", model: Model = SEVEN_B) -> Demand:
    of = parse_workload(workload) if isinstance(workload, str) else workload
    return demand_of(model, device, of, peaks_of(device))


@pytest.mark.parametrize(
    ("name", "gb_per_s", "tflop_per_s"),
    [
        ("NVIDIA H100 80GB HBM3", 3350, 989),
        ("NVIDIA H100 PCIe", 2000, 756),
        ("NVIDIA H100 NVL", 3900, 835),
        ("NVIDIA H200", 4800, 989),
        ("NVIDIA A100-SXM4-80GB", 2039, 312),
        ("NVIDIA A100-SXM4-40GB", 1555, 312),
        ("NVIDIA L4", 300, 121),
        ("NVIDIA L40S", 864, 362),
        ("NVIDIA L40", 864, 181),
        ("NVIDIA A10G", 600, 70),
        ("Tesla T4", 320, 65),
        ("NVIDIA GeForce RTX 4090", 1008, 165),
    ],
)
def test_peaks_are_those_of_the_board_of_that_name(name: str, gb_per_s: int, tflop_per_s: int) -> None:
    peaks = peaks_of(gpu(name))
    assert (peaks.bytes_per_s, peaks.flop_per_s) == (gb_per_s * 1e9, tflop_per_s * 1e12)


def test_several_boards_have_their_peaks_together() -> None:
    one, four = peaks_of(gpu("NVIDIA L4")), peaks_of(gpu("NVIDIA L4", count=4))
    assert (four.bytes_per_s, four.flop_per_s) == (4 * one.bytes_per_s, 4 * one.flop_per_s)
    assert four.overhead_s == one.overhead_s


def test_an_unknown_board_gets_peaks_between_those_of_known_ones() -> None:
    unknown = peaks_of(gpu("NVIDIA X9000"))
    assert peaks_of(gpu("Tesla T4")).bytes_per_s < unknown.bytes_per_s < peaks_of(gpu("NVIDIA H100")).bytes_per_s


def test_a_processors_peaks_are_measured() -> None:
    peaks = peaks_of(CPU)
    assert 1e8 < peaks.bytes_per_s < 1e13
    assert 1e8 < peaks.flop_per_s < 1e15
    assert all(math.log2(peak).is_integer() for peak in (peaks.bytes_per_s, peaks.flop_per_s)), "alike at every start"


def test_the_times_of_a_token_follow_from_the_sizes_of_model_and_device() -> None:
    need = demand(gpu("NVIDIA H100 80GB HBM3"))
    assert need.weights_s == pytest.approx(15.2e9 / 3.35e12)
    assert need.compute_s == pytest.approx(2 * 7.6e9 / 989e12)
    assert need.cache_s(1) == pytest.approx(57_344 / 3.35e12)
    assert set(need.prompts) == {512.0} and set(need.outputs) == {128.0}


def test_room_is_the_requests_whose_cache_fits_beside_the_weights() -> None:
    need = demand(gpu("NVIDIA H100 80GB HBM3"))
    assert need.cache_room(100) == pytest.approx((0.9 * 80 * GIB - 15.2e9) / 57_344 / 100)
    assert demand(gpu("NVIDIA H100 80GB HBM3", count=2)).cache_room(1) > 2 * need.cache_room(1)


def test_of_a_model_that_does_not_fit_one_request_is_assumed_to() -> None:
    curve = rates(Roofline(OF, demand(gpu("NVIDIA L4", gib=8))))
    assert np.isfinite(curve).all() and len(set(curve)) == 1


def test_a_prompt_that_is_not_tokenized_yet_counts_a_token_for_four_bytes(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f'{{"prompt": "{n:0400d}", "output_tokens": 50}}\n' for n in range(40)))
    need = demand(gpu("NVIDIA L4"), parse_workload(f"jsonl:{path}"))
    assert set(need.prompts) == {100.0} and set(need.outputs) == {50.0}


def test_throughput_rises_with_concurrency_and_saturates() -> None:
    curve = rates(Roofline(OF, DEMAND))
    gains = curve[1:] / curve[:-1]
    assert (gains >= 1).all() and (gains < 2).all()
    assert gains[0] > 1.8 and gains[-1] < 1.1
    assert (np.diff(gains) <= 1e-9).all()


def test_concurrency_beyond_the_room_in_the_kv_cache_gains_nothing() -> None:
    curve = dict(
        zip(SLOTS, rates(Roofline(OF, replace(DEMAND, cache_room=lambda tokens: 100.0 * 100 / tokens))), strict=True)
    )
    assert curve[64] < curve[128] == curve[256] == curve[1024]


def test_long_prompts_make_concurrency_matter_less() -> None:
    short, long = (rates(Roofline(OF, replace(DEMAND, prompts=np.full(512, tokens)))) for tokens in (0.0, 30_000.0))
    assert long[-1] / long[0] < short[-1] / short[0]


def test_of_two_knobs_for_concurrency_the_lower_value_counts() -> None:
    of = SearchSpace(tuple(Int(name, SLOTS, 8, is_concurrency=True) for name in ("slots", "batch")))
    low, high, lopsided = Roofline(of, DEMAND).predict(
        [config(slots=4, batch=4), config(slots=256, batch=256), config(slots=4, batch=256)]
    )
    assert lopsided == low < high


def test_without_a_knob_for_concurrency_the_prediction_is_constant() -> None:
    of = SearchSpace((Int("block", (16, 32, 64), 16),))
    roofline = Roofline(of, DEMAND)
    points = list(of.grid())
    roofline.fit(points, np.array([1.0, 2.0, 3.0]))
    assert len(set(roofline.predict(points))) == 1


@pytest.mark.parametrize(("share", "overhead"), [(0.4, 1.0), (0.8, 6.0), (0.9, 0.3)])
def test_five_measurements_correct_the_curve_between_them_and_beyond(share: float, overhead: float) -> None:
    """On a device whose shares and overhead differ from the starting point of the fit."""

    def true_rate(slots: float) -> float:
        memory_s = (DEMAND.weights_s + slots * DEMAND.cache_s(50)) / share
        return slots / (max(memory_s, slots * DEMAND.compute_s / 0.5) + DEMAND.overhead_s * overhead)

    measured = (1, 8, 32, 128, 512)
    roofline = Roofline(OF, DEMAND)
    truth = np.log([true_rate(s) for s in SLOTS])

    def misfit() -> float:
        wrong = np.log(rates(roofline)) - truth
        return float(np.abs(wrong - wrong.mean()).max())

    unfitted = misfit()
    roofline.fit([config(slots=s, block=16) for s in measured], np.log([true_rate(s) for s in measured]) + 3.0)
    assert misfit() < 0.2
    assert misfit() < 0.6 * unfitted


def test_measurements_at_one_concurrency_leave_the_curve_as_it_was() -> None:
    roofline = Roofline(OF, DEMAND)
    before = rates(roofline)
    roofline.fit([config(slots=8, block=16), config(slots=8, block=32)], np.array([2.0, 3.0]))
    assert rates(roofline).tolist() == before.tolist()


def test_concurrency_beyond_the_requests_of_a_job_gains_nothing() -> None:
    roofline = Roofline(OF, DEMAND)
    assert rates(roofline, (64, 128))[1] > rates(roofline, (64, 128))[0]
    roofline.fit([config(slots=8, block=16)], np.array([2.0]), n_requests=64)
    assert rates(roofline, (64, 128))[1] == rates(roofline, (64, 128))[0]


def batches_of(values: Mapping[str, Scalar], lengths: Sequence[float]) -> list[list[int]]:
    """Batches of `slots` requests, the longest prompts first if `sorted`."""
    size = int(float(values["slots"] or 1))
    order = sorted(range(len(lengths)), key=lambda n: -lengths[n]) if values["sorted"] else list(range(len(lengths)))
    return [order[start : start + size] for start in range(0, len(order), size)]


FIXED = SearchSpace(
    (Int("slots", (1, 2, 3, 4, 6, 8, 12), 1, is_concurrency=True), Choice("sorted", (False, True), False)),
    batches=FixedBatches(("slots", "sorted"), batches_of),
)


def fixed(need: Demand, **values: Scalar) -> float:
    """Predicted tokens per second of an engine with fixed batches."""
    return float(np.exp(Roofline(FIXED, need).predict([config(**values)])[0]))


def test_a_fixed_batch_is_padded_to_its_longest_prompt_and_runs_to_its_longest_output() -> None:
    """Computed by hand: two batches of two; weights and overhead decide the time of a step."""
    need = Demand(
        weights_s=1.0, cache_s=lambda tokens: 0.0, compute_s=0.01, overhead_s=0.1, cache_room=lambda tokens: math.inf,
        prompts=np.array([10.0, 30.0, 20.0, 20.0]), outputs=np.array([5.0, 7.0, 9.0, 1.0]), n_requests=4,
    )  # fmt: skip
    share, operations, _ = np.exp([math.log(0.8), math.log(0.55), 0.0])
    step_s = 1.0 / share + 5 * 0.1
    prefill_s = (2 * 30 + 2 * 20) * 0.01 / operations
    assert fixed(need, slots=2, sorted=False) * ((7 + 9) * step_s + prefill_s) == pytest.approx(1.0)


def test_a_larger_batch_gains_nothing_unless_there_are_fewer_batches() -> None:
    need = replace(DEMAND, n_requests=12)
    twelve = {size: fixed(need, slots=size, sorted=False) for size in (4, 6, 8, 12)}
    assert twelve[4] < twelve[6] < twelve[12]
    assert twelve[8] == pytest.approx(twelve[6]), "8 and 4 are two batches, as 6 and 6 are"


def test_sorting_by_length_gains_only_where_prompts_differ() -> None:
    mixed = replace(DEMAND, prompts=np.tile([10.0, 4000.0], 6), outputs=np.full(12, 10.0), n_requests=12)
    even = replace(mixed, prompts=np.full(12, 2000.0))
    assert fixed(mixed, slots=6, sorted=True) > 1.1 * fixed(mixed, slots=6, sorted=False)
    assert fixed(mixed, slots=12, sorted=True) == fixed(mixed, slots=12, sorted=False)
    assert fixed(even, slots=6, sorted=True) == fixed(even, slots=6, sorted=False)


def test_where_output_lengths_differ_fixed_batches_gain_less_from_their_size() -> None:
    """In a batch of all requests most of them wait for the longest output."""
    rng = np.random.default_rng(0)
    ragged = replace(DEMAND, outputs=rng.uniform(1, 200, 512), n_requests=12)
    gain, even_gain = (
        fixed(of, slots=12, sorted=False) / fixed(of, slots=2, sorted=False)
        for of in (ragged, replace(DEMAND, n_requests=12))
    )
    assert gain < 0.8 * even_gain


def test_the_size_of_the_job_is_learned_from_what_was_measured() -> None:
    roofline = Roofline(FIXED, DEMAND)
    points = [config(slots=size, sorted=False) for size in (6, 8)]
    before = roofline.predict(points)
    assert before[1] > before[0] + 0.05, "of a job of unknown size larger batches are better"
    roofline.fit(points[:1], np.array([1.0]), n_requests=12)
    after = roofline.predict(points)
    assert after[1] == pytest.approx(after[0])


def test_the_same_measurements_give_the_same_curve_whatever_was_fitted_before() -> None:
    once, twice = Roofline(OF, DEMAND), Roofline(OF, DEMAND)
    points = [config(slots=s, block=16) for s in (1, 16, 256)]
    twice.fit(points, np.array([5.0, 5.1, 5.2]))
    for roofline in (once, twice):
        roofline.fit(points, np.array([1.0, 3.0, 4.0]))
    assert rates(once).tolist() == rates(twice).tolist()


def test_the_next_fit_starts_from_another_runs_fit() -> None:
    fresh, settled = Roofline(OF, DEMAND), Roofline(OF, DEMAND)
    points = [config(slots=s, block=16) for s in (1, 16, 256)]
    settled.fit(points, np.array([1.0, 3.0, 4.0]))
    there = rates(settled)
    settled.start_from_fit()
    for roofline in (fresh, settled):
        roofline.fit(points[:1], np.array([1.0]))
    assert rates(settled).tolist() == there.tolist() != rates(fresh).tolist()


def test_after_implausible_measurements_the_curve_is_finite_and_rises() -> None:
    roofline = Roofline(OF, DEMAND)
    points = [config(slots=s, block=16) for s in (1, 16, 256)]
    roofline.fit(points, np.array([9.0, 1.0, -9.0]))
    assert np.isfinite(rates(roofline)).all()
    assert (np.diff(rates(roofline)) >= 0).all()
