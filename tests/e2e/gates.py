"""What the tests of the gate share: profiles of simulated engines."""

import tempfile
from pathlib import Path

import yaml

import infertune
from infertune.profiles.profile import Profile

_TUNED: dict[str, Profile] = {}


def profile(folder: Path, name: str = "p.yaml", **options: object) -> Path:
    """A profile of one configuration, in the working folder; the same options are tuned once only."""
    key = repr(sorted(options.items()))
    if key not in _TUNED:
        with tempfile.TemporaryDirectory() as place:
            places = {"out": Path(place) / "run", "profiles": Path(place) / "profiles"}
            given = {"engine": "fake", "trials": 1, "requests": 16, **places, **options}
            _TUNED[key] = infertune.tune(**given).profile  # type: ignore[arg-type]
    return _TUNED[key].save(folder / name)


def goodput_profile(folder: Path) -> Path:
    """A profile of a simulated server, tuned for the most requests a second within limits."""
    return profile(
        folder, engine="fake-serve:launch=20s,noise=0.5%", device="cpu", workload="synthetic:in=256,out=64",
        objective="goodput", slo=("ttft_s<0.5", "tpot_s<0.03"), attain="90%", knob={"compiled": (False, True)},
        set={"max_num_batched_tokens": 2048, "max_num_seqs": 256, "gpu_memory_utilization": 0.9},
        trials=2, requests=None, window="8s", trust="quick",
    )  # fmt: skip


def edited(path: Path, **changes: object) -> Path:
    """The same profile, some fields changed by hand; `a__b` is the field b in a."""
    document = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        *outer, last = name.split("__")
        place = document
        for part in outer:
            place = place[part]
        place[last] = value
    path.write_text(yaml.safe_dump(document))
    return path


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
