"""Files that say how vLLM is started: `vllm serve --config`, a compose file, a Kubernetes manifest, a script."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infertune.engines.base import first_line
from infertune.engines.vllm.shell import fill_in, split
from infertune.errors import UsageError

_MOST_BYTES = 1_000_000
_MOST_DEPTH = 20


@dataclass(frozen=True)
class Started:
    """What a file starts.

    Attributes:
        words: The command with its arguments.
        environment: The variables that it is given.
    """

    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


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
    found = dict(_commands(tables))
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
    except (yaml.YAMLError, RecursionError, ValueError):
        if not file.endswith((".yaml", ".yml", ".json")):
            return [text]
        raise UsageError(f"--current {file} is not YAML") from None


def _words(table: Mapping[Any, Any], file: str) -> list[str]:
    """Names and values as vLLM itself makes flags of them; the model comes first."""
    words = []
    for key, value in table.items():
        flag = f"--{str(key).strip().lstrip('-').replace('_', '-')}"
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


def _commands(tables: list[Mapping[Any, Any]]) -> Iterator[tuple[str, Started]]:
    """Every service or container that starts vLLM, by its name."""
    for table in tables:
        services = table.get("services")
        if isinstance(services, Mapping):
            for name, service in services.items():
                if isinstance(service, Mapping) and (started := _of_service(service)):
                    yield str(name), started
        for container in _containers(table, set()):
            if started := _of_container(container):
                yield str(container.get("name", "container")), started


def _containers(node: Any, seen: set[int], depth: int = 0) -> Iterator[Mapping[Any, Any]]:
    """The containers of a manifest, of whatever kind: a Deployment, a List, a Helm chart's output.

    An alias of YAML is one object that stands in many places: each object is looked at once.
    """
    if depth > _MOST_DEPTH or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, Mapping):
        found = node.get("containers")
        if isinstance(found, list):
            yield from (item for item in found if isinstance(item, Mapping))
        for key, value in node.items():
            if key != "containers":
                yield from _containers(value, seen, depth + 1)
    elif isinstance(node, list):
        for item in node:
            yield from _containers(item, seen, depth + 1)


def _of_service(service: Mapping[Any, Any]) -> Started | None:
    variables = _variables(service.get("environment"))
    entrypoint, command = (_listed(service.get(key), variables) for key in ("entrypoint", "command"))
    return _started(entrypoint, command, str(service.get("image", "")), variables)


def _of_container(container: Mapping[Any, Any]) -> Started | None:
    variables = _variables(container.get("env"))
    command, arguments = (_listed(container.get(key), variables) for key in ("command", "args"))
    return _started(command, arguments, str(container.get("image", "")), variables)


def _started(program: list[str], arguments: list[str], image: str, environment: dict[str, str]) -> Started | None:
    """A command, if it starts vLLM: by its own words, or by an image of vLLM's."""
    words = [*program, *arguments]
    text = " ".join(words)
    if not program and "vllm" in image.lower() and not text.startswith(("vllm ", "python", "sh ", "bash ", "/")):
        words = ["vllm", "serve", *(words[1:] if words[:1] == ["serve"] else words)]
    elif "vllm" not in text:
        return None
    return Started(tuple(words), tuple(environment.items()))


def _listed(value: Any, variables: Mapping[str, str]) -> list[str]:
    """A list of words, or a line that is split as a shell would."""
    if isinstance(value, list):
        return [fill_in(str(item), variables) for item in value]
    return split(fill_in(value, variables)) if isinstance(value, str) and value.strip() else []


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
            found[str(item["name"])] = str(item.get("value", ""))
    return found
