"""Which arguments of `llama-server` may be set, by whom, and how a value is checked: by the server's own parser."""

import re
from functools import partial
from pathlib import Path

from infertune.domain.knobs import Scalar
from infertune.engines.base import first_line
from infertune.engines.llamacpp.binary import PROGRAM, ask
from infertune.engines.llamacpp.space import CURATED, effect_of, is_harmless
from infertune.engines.serving.arguments import Flag, Policy, check_word, shown, words_of
from infertune.engines.shell import names_in
from infertune.errors import UsageError

_PLAIN = re.compile(r"[A-Za-z0-9][\w.,+/-]*", re.ASCII)
# What a launch here decides: which model, where it listens, how long outputs are.
_OURS = names_in("""
    model host port predict ignore_eos alias api_key api_key_file metrics help version list_devices completion_bash
    cache_list reuse_port log_disable ssl_key_file ssl_cert_file api_prefix embedding rerank models_dir models_preset
    models_max models_autoload sleep_idle_seconds hf_repo model_url docker_repo hf_file
""")
_SAMPLING = names_in("temp top_k top_p min_p seed samplers sampler_seq repeat_penalty typical mirostat")


def policy_of(binary: Path) -> Policy:
    """What may be set on this server."""
    return Policy(
        program=PROGRAM, curated=CURATED, effect=effect_of, plain=is_plain, refused=_refused,
        check=partial(_check, binary),
    )  # fmt: skip


def is_plain(name: str, value: Scalar) -> bool:
    """Whether a setting may stand in a stranger's profile: an argument that names no code, file or address."""
    return is_harmless(name) and (not isinstance(value, str) or _PLAIN.fullmatch(value) is not None)


def _refused(name: str) -> str:
    if name in _OURS:
        return "infertune sets it itself; MODEL says which model, the workload how long outputs are"
    if name in _SAMPLING:
        return "it has no effect here, every request asks for the likeliest token"
    return ""


def _check(binary: Path, flag: Flag, value: Scalar) -> None:
    """Let the server itself look at a value, without starting it: it reads its arguments up to `--version`.

    Raises:
        UsageError: It refuses the value; the message has its own words.
    """
    check_word(flag, value)
    answer = ask(binary, *words_of(flag, value), "--version")
    if answer.code != 0:
        said = next((line for line in answer.text.splitlines() if "error" in line.lower()), answer.text)
        raise UsageError(f"{flag.name}={shown(value)}: {first_line(said, 200)}")
