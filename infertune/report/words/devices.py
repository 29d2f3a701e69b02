"""How the devices of a run differ, in sentences."""

from infertune.landscape import DeviceEffect, device_effects
from infertune.report.findings import Findings
from infertune.report.words.counting import counted
from infertune.units import format_percent


def device_sentences(found: Findings) -> list[str]:
    """How far apart the devices of a run are, and which of them is off by more than its noise; none for one device."""
    trials = found.ledger.trials
    devices = list(dict.fromkeys(trial.device_id for trial in trials if trial.device_id is not None))
    if len(devices) < 2:
        return []
    effects = device_effects(trials, found.objective)
    if not effects:
        return [f"The run used {counted(len(devices), 'device')}; nothing was launched on several of them to compare."]
    shares = [effect.ratio for effect in effects]
    lines = [
        f"The run used {counted(len(devices), 'device')} of one model. Launches of the same configurations put them at "
        f"{format_percent(min(shares))} to {format_percent(max(shares))} of their mean; the search's scores are "
        "corrected by that."
    ]
    off = [effect for effect in effects if effect.is_off]
    lines += [f"{_named(effect)} is off by more than its noise." for effect in off]
    return lines


def _named(effect: DeviceEffect) -> str:
    margin = f" ±{effect.half_width:.1%}" if effect.half_width is not None else ""
    return f"Device {effect.device_id}, {format_percent(effect.ratio)}{margin} ({counted(effect.launches, 'launch')}),"
