"""Files that say how vLLM is started: `vllm serve --config`, a compose file, a Kubernetes manifest, a script."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infertune.engines.base import first_line
from infertune.engines.shell import fill_in, holds_secret, split
from infertune.engines.vllm.mounts import Mount, of_container, of_service
from infertune.engines.vllm.variables import beside, interpolated, of_env_files
from infertune.errors import UsageError

_MOST_BYTES = 1_000_000
_MOST_DEPTH = 20
_ARGUMENT = re.compile(r"[a-z][a-z0-9_-]*(\.\w+)*|O", re.ASCII)


@dataclass(frozen=True)
class Started:
    """What a file starts.

    Attributes:
        words: The command with its arguments.
        environment: The variables that it is given.
        contained: It runs in a container, which has paths of its own.
        mounts: The folders of this machine that the container sees.
    """

    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    contained: bool = False
    mounts: tuple[Mount, ...] = ()


def command_in_file(text: str, file: str, service: str) -> Started | None:
    """The command in a file; None where the file is itself a command line.

    Raises:
        UsageError: It is no YAML, holds no such command, or several and none is named.
    """
    documents = _documents(text, file)
    if all(isinstance(document, str) for document in documents) and documents:
        return None
    tables = [document for document in documents if isinstance(document, Mapping)]
    if not tables:
        raise UsageError(f"--current {file}: holds no command")
    found = _by_name(_commands(tables, file))
    if not found and len(tables) == 1 and not service and not {"services", "kind", "apiVersion"} & set(tables[0]):
        return Started(("vllm", "serve", *_words(tables[0], file)))
    if service:
        if service not in found:
            there = f"there are {', '.join(found)}" if found else "it has none"
            raise UsageError(f"--current {file}: no service {first_line(service, 40)!r} that starts vLLM; {there}")
        return found[service]
    if not found:
        raise UsageError(f"--current {file}: no service or container of it starts vLLM")
    if len(found) > 1:
        first = next(iter(found))
        raise UsageError(f"--current {file}: starts vLLM in {', '.join(found)}; name one, such as {file}:{first}")
    return next(iter(found.values()))


def config_words(path: str) -> list[str]:
    """The arguments in a file for `vllm serve --config`.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        if Path(path).stat().st_size > _MOST_BYTES:
            raise UsageError(f"--current: --config {path} is larger than {_MOST_BYTES // 1_000_000} MB")
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"--current: cannot read --config {path}: {first_line(str(error), 80)}") from None
    documents = _documents(text, path)
    if len(documents) != 1 or not isinstance(documents[0], Mapping):
        raise UsageError(f"--current: --config {path} must hold names and values")
    return _words(documents[0], path)


def _documents(text: str, file: str) -> list[Any]:
    try:
        return [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if not file.endswith((".yaml", ".yml", ".json")):
            return [text]
        mark = getattr(error, "problem_mark", None)
        where = f": line {mark.line + 1}: {first_line(str(getattr(error, 'problem', '')), 80)}" if mark else ""
        template = "; of a template, give what `helm template` makes of it" if "{{" in text else ""
        raise UsageError(f"--current {file} is not YAML{where}{template}") from None


def _words(table: Mapping[Any, Any], file: str) -> list[str]:
    """Names and values as vLLM itself makes flags of them; the model comes first."""
    words = []
    for key, value in table.items():
        name = str(key).strip().lstrip("-")
        if not _ARGUMENT.fullmatch(name):
            raise UsageError(
                f"--current {file}: {first_line(name, 40)!r} is no argument of `vllm serve`; of a chart's values, give "
                "what `helm template` makes of them"
            )
        flag = f"--{name.replace('_', '-')}"
        if flag == "--config":
            raise UsageError(f"--current {file}: a configuration cannot name another one")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            words += [flag, *map(str, value)]
        elif isinstance(value, dict | list):
            words.append(f"{flag}={json.dumps(value)}")
        else:
            words.append(f"{flag}={value}")
    return words


def _by_name(commands: Iterator[tuple[str, str, Started]]) -> dict[str, Started]:
    """Commands by the name of their service or container, with that of its resource before it where that is needed."""
    every = list(commands)
    names = [name for name, _, _ in every]
    found: dict[str, Started] = {}
    for name, resource, started in every:
        whole = name if names.count(name) == 1 else f"{resource}/{name}"
        found[whole if whole not in found else f"{whole}#{len(found)}"] = started
    return found


def _commands(tables: list[Mapping[Any, Any]], file: str) -> Iterator[tuple[str, str, Started]]:
    """Every service or container that starts vLLM, with its name and its resource's."""
    for table in tables:
        services = table.get("services")
        if isinstance(services, Mapping):
            variables = beside(file)
            for name, service in services.items():
                if isinstance(service, Mapping) and (started := _of_service(service, str(name), variables, file)):
                    yield str(name), "", started
        for resource, pod, container in _containers(table, set()):
            if started := _of_container(container, pod):
                yield str(container.get("name", "container")), resource, started


def _containers(
    node: Any, seen: set[int], resource: str = "", depth: int = 0
) -> Iterator[tuple[str, Mapping[Any, Any], Mapping[Any, Any]]]:
    """The containers of a manifest, of whatever kind: a Deployment, a List, a chart's values with image and arguments.

    An alias of YAML is one object that stands in many places: each object is looked at once.

    Yields:
        The name of the resource, what stands beside the containers, and a container.
    """
    if depth > _MOST_DEPTH or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, Mapping):
        metadata = node.get("metadata")
        if isinstance(metadata, Mapping) and "name" in metadata:
            resource = str(metadata["name"])
        found = node.get("containers")
        if isinstance(found, list):
            yield from ((resource, node, item) for item in found if isinstance(item, Mapping))
        elif {"image", "repository"} & node.keys() and {"args", "command"} & node.keys():
            yield resource, node, node
        for key, value in node.items():
            if key not in ("containers", "services"):
                yield from _containers(value, seen, resource, depth + 1)
    elif isinstance(node, list):
        for item in node:
            yield from _containers(item, seen, resource, depth + 1)


def _of_service(service: Mapping[Any, Any], name: str, of_compose: Mapping[str, str], file: str) -> Started | None:
    """A service of a compose file: first Compose fills in its variables, then the container its own."""

    def stated(key: str) -> Any:
        return interpolated(service.get(key), of_compose)

    variables = of_env_files(stated("env_file"), file) | _variables(stated("environment"))
    entrypoint, command = (_listed(stated(key), variables, name, key) for key in ("entrypoint", "command"))
    image = _image({"image": stated("image")} if "image" in service else service)
    return _started(entrypoint, command, image, variables, of_service(stated("volumes")))


def _of_container(container: Mapping[Any, Any], pod: Mapping[Any, Any]) -> Started | None:
    variables = _variables(container.get("env"))
    name = str(container.get("name", "container"))
    command, arguments = (_listed(container.get(key), variables, name, key) for key in ("command", "args"))
    mounts = of_container(container.get("volumeMounts"), pod.get("volumes"))
    return _started(command, arguments, _image(container), variables, mounts)


def _image(container: Mapping[Any, Any]) -> str:
    """The image, which a chart's values have in parts."""
    image = container.get("image", container.get("repository", ""))
    return str(image.get("repository", "") if isinstance(image, Mapping) else image)


def _started(
    program: list[str], arguments: list[str], image: str, environment: dict[str, str], mounts: list[Mount]
) -> Started | None:
    """A command, if it starts vLLM: by its own words, or by an image of vLLM's."""
    words = [*program, *arguments]
    text = " ".join(words)
    if not program and "vllm" in image.lower() and not text.startswith(("vllm ", "python", "sh ", "bash ", "/")):
        words = ["vllm", "serve", *(words[1:] if words[:1] == ["serve"] else words)]
    elif "vllm" not in text:
        return None
    return Started(tuple(words), tuple(environment.items()), contained=True, mounts=tuple(mounts))


def _listed(value: Any, variables: Mapping[str, str], name: str, key: str) -> list[str]:
    """A list of words, or a text that is split as a shell would, its line breaks being blanks.

    Raises:
        UsageError: It is neither.
    """
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return [fill_in(str(item), variables) for item in value]
    if value is None or isinstance(value, str):
        return split(" ".join(fill_in(value, variables).split("\n"))) if value and value.strip() else []
    raise UsageError(f"--current: {key} of {first_line(name, 40)} is no list of words")


def _variables(value: Any) -> dict[str, str]:
    """Variables as a table, as `NAME=VALUE`, or as Kubernetes has them, without those that have no value there."""
    if isinstance(value, Mapping):
        return {str(name): str(content) for name, content in value.items() if content is not None}
    found = {}
    for item in value if isinstance(value, list) else ():
        if isinstance(item, str):
            name, equals, content = item.partition("=")
            found.update({name: content} if equals else {})
        elif isinstance(item, Mapping) and "name" in item:
            known = "value" in item or holds_secret(str(item["name"]))  # else it comes from elsewhere in the cluster
            found.update({str(item["name"]): str(item.get("value", ""))} if known else {})
    return found
