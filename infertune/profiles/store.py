"""The folder of saved profiles: lists them, and finds the one that an earlier tune of the same question saved."""

import os
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from infertune.domain.differences import Difference
from infertune.errors import UsageError
from infertune.profiles.fingerprint import differences
from infertune.profiles.profile import Fingerprint, Profile, case_of, load_profile, profile_path

_MOST_FILES = 10_000


@dataclass(frozen=True)
class Kept:
    """A profile and its file."""

    path: Path
    profile: Profile

    def matches(self, gpu: str | None, model: str | None) -> bool:
        """Whether the names of its device and model hold these texts, whatever their case."""
        found = self.profile.fingerprint
        models = f"{found.model.spec} {found.model.name}" if found.model else ""
        devices = f"{found.device.name} {found.device.slug}"
        return (gpu or "").lower() in devices.lower() and (model or "").lower() in models.lower()


def read_store(folder: Path) -> tuple[list[Kept], list[str]]:
    """Every profile under a folder by path, and a note on each file that is none.

    A link is followed only to a file within the folder, and never to another folder.

    Raises:
        UsageError: There is no such folder.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"there is no folder {folder}: tune something first, or name another with --profiles")
    kept, notes = [], []
    for path in _yaml_files(folder):
        try:
            kept.append(Kept(path, load_profile(path, within=folder)))
        except UsageError as error:
            notes.append(f"skipped: {error}")
    return kept, notes


def place_of(
    folder: Path, found: Fingerprint, objective: str = "throughput", asked: tuple[str, ...] = ()
) -> tuple[Path, Profile | None]:
    """The file of a case, and the profile that it holds; None where there is none that can be read.

    It is the plain name, unless a profile of another model, workload, limits or held arguments has that: then the name
    carries a piece of the hash of what differs.

    Args:
        folder: The folder of profiles; it need not exist.
        found: What was tuned, or is about to be.
        objective: What for.
        asked: Within which limits, and for a goodput under which load, as `Profile.asked` has it.
    """
    case = case_of(found, asked)
    names = [
        profile_path(folder, found, objective, asked, apart)
        for size in range(len(case) + 1)
        for apart in combinations(case, size)
    ]
    kept = {path: _profile_at(path, folder) for path in names if os.path.lexists(path)}
    for path, profile in kept.items():
        if profile and profile.case == case:
            return path, profile
    if not (other := kept.get(names[0])):
        return names[0], None
    apart = [part for part in case if case[part] != other.case[part]]
    path = profile_path(folder, found, objective, asked, apart)
    return (names[-1] if kept.get(path) else path), None


def _profile_at(path: Path, folder: Path) -> Profile | None:
    try:
        return load_profile(path, within=folder)
    except UsageError:
        return None


def earlier_answer(
    folder: Path, found: Fingerprint, objective: str = "throughput", asked: tuple[str, ...] = ()
) -> str | None:
    """A note on the saved profile of the same question, before it is measured again; None if there is none.

    Args:
        folder: The folder of profiles; it need not exist.
        found: What is about to be tuned.
        objective: What for.
        asked: Within which limits, and for a goodput under which load, as `Profile.asked` has it.
    """
    path, _ = place_of(folder, found, objective, asked)
    if not os.path.lexists(path):
        return None
    try:
        profile = load_profile(path, within=folder)
    except UsageError as error:
        return f"an earlier profile cannot be used and will be replaced: {error}"
    changed = differences(profile.fingerprint, found)
    if profile.objective != objective:
        changed.append(Difference(field="objective", before=profile.objective, now=objective))
    unless = ", unless the new answer stays unconfirmed" if profile.proven else ""
    if changed:
        return f"{path} is of something else and will be replaced: {'; '.join(map(str, changed))}{unless}"
    return f"{path} has answered this: {profile.sentence()}; it is measured again and replaced at the end{unless}"


def _yaml_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, names in os.walk(folder):  # does not follow links to folders
        folders.sort()
        found += [Path(root, name) for name in sorted(names) if name.endswith((".yaml", ".yml"))]
        if len(found) > _MOST_FILES:
            raise UsageError(f"{folder} holds more than {_MOST_FILES:,} YAML files: name a smaller folder")
    return found
