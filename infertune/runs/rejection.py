"""Which configurations of a run answer too badly to be recommended, and which were never checked."""

from infertune.domain.knobs import Config
from infertune.domain.record import Record


def rejected_by(record: Record, config: Config) -> bool:
    """Whether a configuration failed its check, or has the settings by which another one failed.

    Those are the lossy ones that the failed one changed; if it changed none, the numeric ones; else all of it.
    """
    return any(
        check.verdict != "pass" and (check.checked == config or _shares_fault(record, check.checked, config))
        for check in record.checks
    )


def unchecked_lossy(record: Record, config: Config) -> bool:
    """Whether a configuration changes what may spoil answers, and was not checked."""
    return bool(lossy_settings(record, config).root) and not any(
        check.checked == config and check.verdict == "pass" for check in record.checks
    )


def lossy_settings(record: Record, config: Config) -> Config:
    """The settings that may spoil answers and differ from what is to be beaten."""
    return _changed(record, config, "lossy")


def _shares_fault(record: Record, failed: Config, config: Config) -> bool:
    for effect in ("lossy", "numeric"):
        changed = _changed(record, failed, effect)
        if changed.root:
            return _changed(record, config, effect) == changed
    return False


def _changed(record: Record, config: Config, effect: str) -> Config:
    """The settings of one effect that differ from what is to be beaten."""
    knobs = record.header.space.knobs
    return Config(
        {k.name: config.root.get(k.name) for k in knobs if k.effect == effect and config.root.get(k.name) != k.default}
    )
