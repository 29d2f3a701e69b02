"""Where a path in a container lies on this machine, as far as the file or command that starts the container says."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

_HERE = re.compile(r"\$\{?(HOME|PWD)\}?")


class Mount(NamedTuple):
    """A folder of this machine that a container sees.

    Attributes:
        source: Its path here; empty where only the container's manager knows (a named volume, a volume claim).
        target: Its path in the container.
    """

    source: str
    target: str


def lies_here(path: str, mounts: Iterable[Mount], folder: str = "") -> str | None:
    """The path on this machine of a path in a container; None where nothing that is known is mounted there.

    Args:
        path: In the container.
        mounts: What it sees.
        folder: What relative sources are relative to.
    """
    inside = PurePosixPath(path)
    known = [m for m in mounts if m.target.startswith("/") and inside.is_relative_to(m.target)]
    if not known:
        return None
    nearest = max(known, key=lambda mount: len(PurePosixPath(mount.target).parts))
    if not nearest.source:
        return None
    here = os.path.normpath(os.path.join(folder, nearest.source, inside.relative_to(nearest.target)))
    return here if os.path.isabs(here) else os.path.join(os.curdir, here)  # and no repository of a hub


def of_short_form(text: str) -> Mount:
    """`SOURCE:TARGET[:ro]`, as `docker run -v` and compose files have it."""
    source, _, rest = text.partition(":")
    target = rest.partition(":")[0] or source  # a target alone is an unnamed volume
    return Mount(_path(source) if rest else "", target)


def of_mount_option(text: str) -> Mount:
    """`type=bind,source=…,target=…`, as `docker run --mount` has it."""
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    source = parts.get("source") or parts.get("src") or ""
    target = parts.get("target") or parts.get("dst") or parts.get("destination") or ""
    return Mount(_path(source) if parts.get("type") == "bind" else "", target)


def of_service(volumes: Any) -> list[Mount]:
    """The volumes of a compose service, in their short or long form."""
    found = []
    for volume in volumes if isinstance(volumes, list) else ():
        if isinstance(volume, str):
            found.append(of_short_form(volume))
        elif isinstance(volume, Mapping) and "target" in volume:
            bound = volume.get("type") == "bind"
            found.append(Mount(_path(str(volume.get("source", ""))) if bound else "", str(volume["target"])))
    return found


def of_container(mounts: Any, volumes: Any) -> list[Mount]:
    """The mounts of a Kubernetes container; only a `hostPath` says where a volume lies.

    Args:
        mounts: The container's `volumeMounts`.
        volumes: The `volumes` of its pod.
    """
    paths = {}
    for volume in volumes if isinstance(volumes, list) else ():
        if isinstance(volume, Mapping) and isinstance(host := volume.get("hostPath"), Mapping):
            paths[str(volume.get("name"))] = str(host.get("path", ""))
    found = []
    for mount in mounts if isinstance(mounts, list) else ():
        if isinstance(mount, Mapping) and "mountPath" in mount:
            source = paths.get(str(mount.get("name")), "")
            inner = str(mount.get("subPath", ""))
            found.append(Mount(os.path.join(source, inner) if source else "", str(mount["mountPath"])))
    return found


def _path(source: str) -> str:
    """A source as a path; empty where it is the name of a volume or has a variable that is not known here."""
    source = _HERE.sub(lambda match: os.environ.get(match[1], "") if match[1] == "HOME" else ".", source)
    if source.startswith("~"):
        source = os.path.expanduser(source)
    if "$" in source or not source.startswith(("/", ".")):
        return ""
    return source
