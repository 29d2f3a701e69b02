"""`docker run …` taken apart: which words are docker's, and which are given to what runs in the container."""

from collections.abc import Sequence
from dataclasses import dataclass

from infertune.engines.base import first_line
from infertune.engines.shell import filled, holds_secret, names_in, names_secret
from infertune.engines.vllm.mounts import Mount, of_mount_option, of_short_form
from infertune.errors import UsageError

_VALUES = names_in("""
    -e --env --env-file -v --volume -p --publish --name --gpus --ipc --shm-size --network --net --runtime --entrypoint
    --restart -u --user -w --workdir --mount --ulimit --device -m --memory --memory-swap --cpus -c --cpu-shares
    --cpuset-cpus --cpuset-mems -l --label --security-opt --cap-add --cap-drop --platform --pull -h --hostname
    --log-driver --log-opt --add-host --group-add --tmpfs --pid --stop-timeout --volumes-from --userns --uts --dns
    --cidfile --cgroup-parent --expose --ip --link --mac-address --network-alias --oom-score-adj --pids-limit
    --storage-opt --sysctl --annotation --health-cmd --health-interval --health-retries --health-timeout
""")
_SWITCHES = names_in("""
    -d --detach -i --interactive -t --tty -it -ti -itd -dit -td -dt -id -di --rm --privileged --init -P --publish-all
    --read-only --no-healthcheck --oom-kill-disable --sig-proxy -q --quiet
""")


@dataclass(frozen=True)
class DockerRun:
    """A container's start.

    Attributes:
        program: Docker's own words with the image, secrets left out.
        entrypoint: What replaces the image's own program; empty where nothing does.
        arguments: What the program in the container is given.
        environment: The variables that it is given.
        secrets: Names of labels and options that were left out because they hold secrets.
        mounts: The folders of this machine that it sees.
    """

    program: tuple[str, ...]
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[str, ...] = ()

    def starting(self, program: str) -> tuple[str, ...]:
        """Docker's own words with another entrypoint."""
        at = next(i for i, word in enumerate(self.program) if word == "--entrypoint")
        return (*self.program[: at + 1], program, *self.program[at + 2 :])


def docker_run(words: Sequence[str]) -> DockerRun:
    """The parts of `docker run …`.

    Raises:
        UsageError: It is another command of docker, an option is not known, or the image is not vLLM's.
    """
    left = list(words)
    program = [left.pop(0)]
    if left[:1] == ["container"]:
        program.append(left.pop(0))
    if left[:1] not in (["run"], ["create"]):
        cures = {"compose": "; give the compose file itself", "exec": "; give what stands behind the container's name"}
        cure = cures.get(left[0], "") if left else ""
        raise UsageError(f"--current: `docker {first_line(' '.join(left[:1]), 20)}` starts no server{cure}")
    program.append(left.pop(0))
    entrypoint: tuple[str, ...] = ()
    environment, mounts, secrets = [], [], []
    while left and left[0].startswith("-"):
        word = left.pop(0)
        flag, equals, value = word.partition("=")
        if not word.startswith("--") and flag not in _SWITCHES | _VALUES and word[:2] in _VALUES:
            flag, equals, value = word[:2], "=", word[2:]  # -eNAME=VALUE
        if flag in _SWITCHES:
            program.append(word)
            continue
        if not equals and flag not in _VALUES:
            raise UsageError(f"--current: docker's option {first_line(flag, 40)} is not known here: write it with `=`")
        if not equals:
            if not left:
                raise UsageError(f"--current: {flag} lacks its value")
            value = left.pop(0)
        if flag in ("-e", "--env"):
            name, _, content = value.partition("=")
            environment.append((name, content))
            if holds_secret(name) or names_secret(content):
                value = name  # docker then takes it from its own environment
        elif "=" in value and holds_secret(value.partition("=")[0]):  # of a label, or of a log's driver
            secrets.append(f"{value.partition('=')[0]} in {flag}")
            continue
        if flag in ("-v", "--volume"):
            mounts.append(of_short_form(value))
        elif flag == "--mount":
            mounts.append(of_mount_option(value))
        elif flag == "--entrypoint":
            entrypoint = (value,)
        program += [flag, value]
    if not left:
        raise UsageError("--current: docker run names no image")
    image = left.pop(0)
    if "vllm" not in image.lower() and not any("vllm" in word for word in (*entrypoint, *left)):
        filled(image, "docker")
        raise UsageError(
            f"--current: the image {first_line(image, 60)!r} is not vLLM's, and what it starts is not given"
        )
    return DockerRun((*program, image), entrypoint, tuple(left), tuple(environment), tuple(mounts), tuple(secrets))
