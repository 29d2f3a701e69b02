"""infertune: a throughput autotuner for LLM inference engines.

>>> import infertune
>>> study = infertune.tune(engine="fake", trials=12, seed=1, out=folder / "run", profiles=folder / "profiles")
>>> study.summary.answer
'better'
>>> infertune.load_profile(study.profile_file).config == study.summary.best_config
True
>>> study.to_dataframe().query("phase == 'search'").shape[0]
12
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from infertune.version import __version__

if TYPE_CHECKING:
    from infertune.profiles.profile import Profile, load_profile
    from infertune.tuning.tune import Study, tune

__all__ = ["Profile", "Study", "__version__", "load_profile", "tune"]

_HOMES = {
    "Profile": "infertune.profiles.profile",
    "load_profile": "infertune.profiles.profile",
    "Study": "infertune.tuning.tune",
    "tune": "infertune.tuning.tune",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first asked for: `import infertune` stays cheap in a worker."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'infertune' has no attribute {name!r}")
