"""How the devices of one run differ: the device as a block beside configurations.

The logarithm of a launch's goodness is modelled as that of its configuration plus an effect of its device; effects sum
to zero (two-way analysis of variance without interaction, by least squares). Launches of one configuration on several
devices tell devices apart: the base, which every device measures, and what the proof launched in turn.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from infertune.domain.objective import Objective
from infertune.domain.trial import Trial

_LEVEL = 0.05  # of calling any device off where none is, shared among them (Bonferroni)
_LEAST_OFF = math.log(1.01)  # judgement: less than 1% is not worth a word
_PRIOR_SD = 0.03  # of an effect, before anything is measured; boards of one model differ by 1 to 5% (judgement)
_LAUNCH_SD = 0.02  # of one launch, where too few were made to tell (MEASURING: noise seen)


@dataclass(frozen=True)
class DeviceEffect:
    """A device against the mean of all devices of its run.

    Attributes:
        device_id: The device.
        ratio: How many times as good it is as the mean.
        half_width: Of the 95% interval of `ratio`, relative; None where nothing was launched twice.
        launches: How many launches this is from.
        is_off: Whether it differs by 1% or more, and by more than its noise.
    """

    device_id: str
    ratio: float
    half_width: float | None
    launches: int
    is_off: bool


def device_effects(trials: Sequence[Trial], objective: Objective) -> tuple[DeviceEffect, ...]:
    """The devices of a run in the order in which they came; empty where there is one only, or nothing compares them.

    Args:
        trials: Of the run.
        objective: What says how good a launch is.
    """
    rows = _rows(trials, objective)
    devices = list(dict.fromkeys(device for _, device, _ in rows))
    cells = list(dict.fromkeys(cell for cell, _, _ in rows))
    if len(devices) < 2:
        return ()
    # One column a cell; one for each device but the last, which is minus their sum.
    design = np.zeros((len(rows), len(cells) + len(devices) - 1))
    for i, (cell, device, _) in enumerate(rows):
        design[i, cells.index(cell)] = 1
        number = devices.index(device)
        if number < len(devices) - 1:
            design[i, len(cells) + number] = 1
        else:
            design[i, len(cells) :] = -1
    scores = np.array([score for _, _, score in rows])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return ()
    solution, _, _, _ = np.linalg.lstsq(design, scores, rcond=None)
    free = solution[len(cells) :]
    effects = np.append(free, -free.sum())
    degrees = len(rows) - design.shape[1]
    half: list[float] | None = None
    strict: list[float] = [math.inf] * len(devices)
    if degrees > 0:
        variance = float(((scores - design @ solution) ** 2).sum()) / degrees
        covariance = variance * np.linalg.inv(design.T @ design)[len(cells) :, len(cells) :]
        errors = np.sqrt(np.append(np.diag(covariance), covariance.sum()))
        half = [float(stdtrit(degrees, 1 - _LEVEL / 2)) * error for error in errors]
        strict = [float(stdtrit(degrees, 1 - _LEVEL / 2 / len(devices))) * error for error in errors]
    counted = [sum(device == one for _, device, _ in rows) for one in devices]
    return tuple(
        DeviceEffect(
            device_id=device,
            ratio=math.exp(effect),
            half_width=math.expm1(half[i]) if half else None,
            launches=counted[i],
            is_off=bool(abs(effect) > max(_LEAST_OFF, strict[i])),
        )
        for i, (device, effect) in enumerate(zip(devices, effects, strict=True))
    )


def shift_of(device_id: str | None, trials: Sequence[Trial], objective: Objective) -> float:
    """What to take from a score of a device so that it compares with the others: its effect, shrunk by what is unsure.

    Args:
        device_id: The device; None where the run has one only.
        trials: Of the run so far.
        objective: What says how good a launch is.

    Returns:
        In ln(objective); 0 where nothing is known of the device.
    """
    if device_id is None:
        return 0.0
    found = next((one for one in device_effects(trials, objective) if one.device_id == device_id), None)
    if found is None:
        return 0.0
    noise = _LAUNCH_SD**2 / found.launches
    return math.log(found.ratio) * _PRIOR_SD**2 / (_PRIOR_SD**2 + noise)


def _rows(trials: Sequence[Trial], objective: Objective) -> list[tuple[str, str, float]]:
    """Cell, device and mean score of each launch; cells that one device only has say nothing and are left out.

    A cell is a configuration on the requests of a phase. Live trials are left out: their launch was another's.
    """
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for trial in trials:
        if trial.measurement is None or trial.device_id is None or trial.live:
            continue
        figure = objective.figure(trial.measurement)
        if figure is not None:
            phase = "search" if trial.phase == "device" else trial.phase
            key = f"{phase} {trial.config.key}", trial.device_id, trial.launch_number
            found[key].append(objective.score_of(figure))
    devices: dict[str, set[str]] = defaultdict(set)
    for cell, device, _ in found:
        devices[cell].add(device)
    return [
        (cell, device, sum(scores) / len(scores))
        for (cell, device, _), scores in found.items()
        if len(devices[cell]) > 1
    ]
