"""A `llama-server` command that runs today: its parts, what it sets, and the same command with tuned settings.

Words are split as a POSIX shell would; none is run. Secrets are left out here, before anything else sees them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from infertune.domain.command import Command
from infertune.domain.knobs import Config, Scalar, format_scalar, parse_scalar
from infertune.engines.asking import Asked, canonical, only_by_the_user
from infertune.engines.base import EngineOptions, first_line
from infertune.engines.llamacpp.asked import is_plain
from infertune.engines.llamacpp.binary import PROGRAM
from infertune.engines.llamacpp.command import TOGETHER, usual_flag
from infertune.engines.llamacpp.variables import PREFIX, installed_flags, words_of_variables
from infertune.engines.scripts import command_line
from infertune.engines.serving.arguments import Flag, flag_for, words_of
from infertune.engines.shell import (
    WRAPPERS,
    Parts,
    filled,
    holds_secret,
    names_in,
    shown_plainly,
    split,
    without_secrets,
)
from infertune.errors import UsageError

FORMS = f"a `{PROGRAM} …` command, or a script or systemd unit with one"
_STARTS = re.compile(rf"(^|[\s/'\"=]){PROGRAM}(\s|$)")
_KEPT_VARIABLES = ("LLAMA_", "GGML_", "CUDA_", "OMP_")
# Short and older spellings of what is tuned; llama-server has had each of them for years.
_SHORT = {
    "np": "parallel", "kvu": "kv_unified", "t": "threads", "tb": "threads_batch", "b": "batch_size",
    "ub": "ubatch_size", "fa": "flash_attn", "ctk": "cache_type_k", "ctv": "cache_type_v", "c": "ctx_size",
    "ngl": "gpu_layers", "n_gpu_layers": "gpu_layers", "lm": "load_mode",
    "hft": "hf_token",
}  # fmt: skip
_TUNED_SWITCHES = names_in("kv_unified mlock mmap no_kv_unified no_mlock no_mmap")
_FLASH = ("on", "off", "auto")
# A model that is fetched: infertune measures files.
_FETCHED = names_in("hf hfr hf_repo hff hf_file mu model_url dr docker_repo models_dir models_preset")
# Of the server and of what it samples, not of how it computes: kept for the export, never given to a launch.
_SERVER_VALUES = names_in("""
    host port a alias api_prefix ssl_key_file ssl_cert_file to timeout threads_http path log_file log_colors lv
    verbosity log_verbosity chat_template chat_template_file chat_template_kwargs reasoning reasoning_format
    reasoning_budget reasoning_budget_message reasoning_effort slot_save_path media_path n predict n_predict temp
    temperature top_k top_p min_p s seed samplers sampler_seq repeat_penalty repeat_last_n presence_penalty
    frequency_penalty tags cors_origins cors_methods cors_headers sleep_idle_seconds mirostat typical typical_p
    webui_config ui_config api_key_file keep
""")
_SERVER_SWITCHES = names_in("""
    metrics props slots no_slots webui no_webui ui no_ui jinja no_jinja log_disable v verbose log_verbose log_prefix
    no_log_prefix log_timestamps no_log_timestamps ignore_eos reuse_port no_perf perf log_jsonl no_log_jsonl
    prefill_assistant no_prefill_assistant cors_credentials no_cors_credentials skip_chat_parsing
    no_skip_chat_parsing e escape no_escape special sp
""")
_REACHING = re.compile(r"path|file|config|template$|cors|prefix$")  # of those, what names a file or opens the server
_VARIABLES = re.compile(r"CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|GGML_CUDA_\w+", re.ASCII)


def read_command(text: str, options: EngineOptions, *, file: str = "", service: str = "") -> Command:
    """The parts of a command, or of the one in a script or unit.

    Args:
        text: The command, or the file's text.
        options: Where the server is found, which says what its variables stand for.
        file: The file's name; empty where the command itself is given.
        service: Refused: only files of other engines have services.

    Raises:
        UsageError: It is no such command, or one that only a shell could complete.
    """
    where = f"--current {file}" if file else "--current"
    if service or file.endswith((".yaml", ".yml", ".json")):
        raise UsageError(f"{where}: give {FORMS}")
    parts = Parts(_KEPT_VARIABLES)
    try:
        line = command_line(text, _STARTS) if file else None
        parts.hide(line.variables if line else {})
        for name, value in line.environment if line else ():
            (parts.variable if name.startswith(PREFIX) else parts.script_variable)(name, value)
        _take(split(line.text, line.variables) if line else split(text.removeprefix("ExecStart=")), parts, options)
    except UsageError as error:
        raise UsageError(shown_plainly(str(error)).replace("--current:", f"{where}:", 1)) from None
    return parts.command(file=file, model_flag=True)


def _take(words: Sequence[str], parts: Parts, options: EngineOptions) -> None:
    left = parts.take_variables(words)
    at = next((i for i, word in enumerate(left) if word.rpartition("/")[2] == PROGRAM), None)
    if at is None or (at > 0 and left[0].rpartition("/")[2] not in WRAPPERS):
        for word in left:
            filled(word, "the program")
        shown = f"{first_line(left[0], 40)!r} is no {PROGRAM}" if left else "no command"
        raise UsageError(f"--current: {shown}; give {FORMS}")
    parts.take_wrapper(left[:at], PROGRAM)
    parts.program.append(left[at])
    _take_arguments([*_of_variables(left[at + 1 :], parts, options), *left[at + 1 :]], parts)


def _of_variables(words: list[str], parts: Parts, options: EngineOptions) -> list[str]:
    """The arguments that variables of the command stand for; they are then no variables of it any more."""
    named = {name: value for name, value in parts.environment if name.startswith(PREFIX)}
    if not named:
        return []
    parts.environment = [(name, value) for name, value in parts.environment if name not in named]
    return words_of_variables(named, words, installed_flags(options, next(iter(named))))


def _take_arguments(words: list[str], parts: Parts) -> None:
    """The server's arguments, those that are tuned in their long spelling.

    Raises:
        UsageError: One lacks its value, or names a model that is no file here.
    """
    left = list(words)

    def value(flag: str) -> str:
        if not left:
            raise UsageError(f"--current: {first_line(flag, 40)} lacks its value")
        return filled(left.pop(0), flag)

    while left:
        word = filled(left.pop(0), "an argument")
        name = canonical(word) if word.startswith("-") else ""
        name = _SHORT.get(name, name)
        if "=" in name:
            flag = word.partition("=")[0]
            shown = f"{flag}=…" if holds_secret(flag) else word
            raise UsageError(f"--current: {first_line(shown, 40)!r}: {PROGRAM} takes a flag and its value as two words")
        if name in ("m", "model"):
            parts.model = value(word)
        elif name in _FETCHED:
            raise UsageError(f"--current: {word} names a model that is fetched; give its file with --model FILE")
        elif holds_secret(name) and name not in _SERVER_VALUES | _SERVER_SWITCHES:
            parts.secrets.append(word)
            del left[:1]
        elif name in _SERVER_VALUES:
            kept, left_out = without_secrets(value(word))
            parts.server += [word, kept]
            parts.secrets += [f"{inner} in {word}" for inner in left_out]
        elif name in _SERVER_SWITCHES:
            parts.server.append(word)
        elif name in _TUNED_SWITCHES:
            parts.settings.append(f"--{name.replace('_', '-')}")
        elif name == "flash_attn" and (not left or left[0] not in _FLASH):  # a switch until 2025
            parts.settings += ["--flash-attn", "on"]
        elif name in _SHORT.values():
            parts.settings += [f"--{name.replace('_', '-')}", value(word)]
        else:
            parts.settings.append(word)


def set_by(command: Command, flags: Mapping[str, Flag]) -> dict[str, Scalar]:
    """What a command's settings come to on the installed server: canonical name → value.

    Raises:
        UsageError: The server has no such argument, or a word stands without one.
    """
    found: dict[str, Scalar] = {}
    left = list(command.settings)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            raise UsageError(f"--current: what is {first_line(word, 40)!r}?")
        spelled = canonical(word)
        turned_off = spelled.startswith("no_") and spelled not in flags
        flag = flag_for(flags, spelled.removeprefix("no_") if turned_off else word, PROGRAM)
        if flag.kind != "value":
            found[flag.name] = not turned_off
        elif not left:
            raise UsageError(f"--current: {first_line(word, 40)} lacks its value")
        else:
            text = left.pop(0)
            found[flag.name] = text if text in flag.words else parse_scalar(text)
    return found


def with_current(asked: Asked, current: Mapping[str, Scalar], tuned: Sequence[str]) -> Asked:
    """What is asked for with what runs today: of tuned arguments the value is known, any other one is held."""
    chosen = {canonical(name) for name in (*asked.held, *asked.searched)}
    known = {name: (value,) for name, value in current.items() if name in tuned}
    held = {name: value for name, value in current.items() if name not in tuned and name not in chosen}
    return replace(asked, known={**asked.known, **known}, held={**held, **asked.held})


def rewritten(
    command: Command, current: Config, tuned: Config, held: Mapping[str, Scalar]
) -> tuple[str, tuple[str, ...]]:
    """The whole command with tuned settings, on one line, and what is different, a phrase each.

    Args:
        command: As it was given, without its secrets.
        current: Every knob's value under it.
        tuned: Every knob's value to use.
        held: Arguments that are held for the whole run: those that the command lacks are added.
    """
    wanted = {name: value for name, value in tuned.root.items() if value != current.root.get(name)}
    if not wanted.keys().isdisjoint(TOGETHER):  # one of them given alone changes what the server makes of the others
        wanted |= {name: tuned[name] for name in TOGETHER if name in tuned}
    stands = _by_name(command.settings)
    wanted |= {name: value for name, value in held.items() if name not in stands}
    changes = []
    for name, value in wanted.items():
        old, new = stands.get(name), words_of(usual_flag(name, value), value)
        if old == new:
            continue
        stands[name] = new
        if not old:
            changes.append(f"add {' '.join(new)}")
        elif not new:
            changes.append(f"leave out {' '.join(old)}")
        elif isinstance(value, bool):
            changes.append(f"{' '.join(old)} → {' '.join(new)}")
        else:
            changes.append(f"{new[0]} {old[-1]} → {format_scalar(value)}")
    words = [word for group in stands.values() for word in group]
    return command.with_settings(words), tuple(changes)


def _by_name(words: Iterable[str]) -> dict[str, list[str]]:
    """Settings by their canonical name, each with its words; the values of others stand with the flag before them."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in words:
        number = re.fullmatch(r"-\d+(\.\d+)?", word)
        if word.startswith("-") and not number:
            name = canonical(word)
            name = name.removeprefix("no_") if name in _TUNED_SWITCHES else name
            found[name] = [word]
        else:
            found.setdefault(name, []).append(word)
    return found


def checked(command: Command, allowed: Iterable[str]) -> Command:
    """A command that came with a profile, fit to be written out: its author may be a stranger.

    Args:
        command: As the profile has it.
        allowed: Names that the user has allowed himself.

    Raises:
        UsageError: An argument can do more than say how the model is served, and the user has not allowed it.
    """
    names = set(allowed)
    for name, words in (*_by_name(command.settings).items(), *_by_name(command.server).items()):
        value = parse_scalar(words[-1]) if len(words) > 1 else True
        of_server = name in _SERVER_VALUES | _SERVER_SWITCHES and not _REACHING.search(name)
        if not (of_server or name in names or is_plain(name, value)):
            shown = first_line(" ".join(words), 60)
            raise only_by_the_user("the profile's command", shown, again=f"{name}=…")
    environment = tuple((name, value) for name, value in command.environment if _VARIABLES.fullmatch(name))
    return command.model_copy(update={"program": (PROGRAM,), "environment": environment})
