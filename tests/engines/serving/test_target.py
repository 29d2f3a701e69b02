"""A server that runs already: measured without being changed, and its key is written nowhere."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from infertune.domain.device import cpu
from infertune.domain.knobs import Config
from infertune.domain.workload import parse_workload, token_ids
from infertune.engines import engine_names, get_engine
from infertune.engines.base import NotOfferedError, Prompt, Setup
from infertune.engines.serving.loaded import LoadedServer, ServerAnswerError
from infertune.engines.serving.process import ServerProcess, free_port
from infertune.engines.serving.target import KEY_VARIABLE, TargetEngine, address_of
from infertune.errors import UsageError
from tests.engines.serving.loaded_stub import start

WORKLOAD = parse_workload("synthetic:in=8,out=4")
PROMPTS = [Prompt([7, 8, 9], 4)] * 3


@pytest.fixture(scope="module", params=["", "vllm"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Its address, and whom it names as its owner."""
    process = ServerProcess(start(f"--owner={request.param}"))
    yield f"http://127.0.0.1:{process.port}", request.param
    process.end()


def loaded(url: str) -> LoadedServer:
    engine = get_engine(f"target:{url}")
    space = engine.space(None, cpu(), WORKLOAD)
    assert space.default == Config({"served_model": "stub"})
    found = engine.load(Setup(model=None, device=cpu(), config=space.default, defaults=space.default, faithful=True))
    assert isinstance(found, LoadedServer)
    return found


def test_it_is_measured_with_fields_that_it_takes(server: tuple[str, str]) -> None:
    url, owner = server
    engine = loaded(f"{url}/v1")
    try:
        load = engine.serve(PROMPTS, [0.0, 0.01, 0.02], cut_after_s=5)
        assert [(sent.output_tokens, sent.error) for sent in load.sent] == [(4, "")] * 3
        seen = engine.ask("GET", "/seen")
        assert isinstance(seen, dict)
        assert ("cache_salt" in seen["asked"][-1]) is (owner == "vllm"), "others may refuse what they do not know"
        facts = engine.facts()
        assert facts.versions == {owner or "server": "9.9"} and facts.context_tokens == 4096
        assert "nothing was started or changed" in facts.notes[0]
        assert engine.tokenize("ab") == [97, 98] and engine.peak_memory_bytes() is None
        with pytest.raises(NotOfferedError):
            engine.answer(PROMPTS)
    finally:
        engine.close()
    assert get_engine(f"target:{url}").available().version == "9.9", "it runs on"


def test_a_key_is_sent_and_never_shown(server: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = server
    monkeypatch.setenv(KEY_VARIABLE, "a-key")
    assert not get_engine(f"target:{url}").available().reason
    assert "a-key" not in repr(address_of(url))
    monkeypatch.setenv(KEY_VARIABLE, "another-key")
    reason = get_engine(f"target:{url}").available().reason
    assert "HTTP 401" in reason and "another-key" not in reason and "\n" not in reason


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, f"wants a key: put it into the environment variable {KEY_VARIABLE}: /v1/models: HTTP 401"),
        (403, f"wants a key: put it into the environment variable {KEY_VARIABLE}: /v1/models: HTTP 403"),
        (404, "no OpenAI-compatible API at"),
        (500, "cannot be measured: /v1/models: HTTP 500"),
    ],
)
def test_a_server_that_refuses_is_told_from_none_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    process = ServerProcess(start(f"--refuse=/v1/models={status}"))
    try:
        target = get_engine(f"target:http://127.0.0.1:{process.port}")
        reason = target.available().reason
        assert words in reason and "no server" not in reason and "\n" not in reason
        with pytest.raises(UsageError, match=f"HTTP {status}"):
            target.space(None, cpu(), WORKLOAD)
    finally:
        process.end()


def test_token_ids_of_a_text_come_in_the_form_of_llama_cpp_too() -> None:
    """Asked in vLLM's form, it answers with no token."""
    process = ServerProcess(start("--text-field=content"))
    engine = loaded(f"http://127.0.0.1:{process.port}")
    try:
        assert engine.tokenize("ab") == [97, 98] and engine.tokenize("") == []
    finally:
        engine.close()
        process.end()


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_only_completions_want_is_asked_for(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    process = ServerProcess(start(f"--refuse=/v1/completions={status}"))
    url = f"http://127.0.0.1:{process.port}"
    try:
        for key, words in (("", "wants a key"), ("wrong-key", "refuses the key")):
            engine = loaded(url)
            monkeypatch.setenv(KEY_VARIABLE, key)
            try:
                with pytest.raises(ServerAnswerError, match=f"{words}.*{KEY_VARIABLE}.*HTTP {status}"):
                    engine.generate(PROMPTS)
                with pytest.raises(ServerAnswerError, match=f"{words}.*{KEY_VARIABLE}.*HTTP {status}"):
                    engine.serve(PROMPTS, [0.0, 0.01, 0.02], cut_after_s=5)
            finally:
                engine.close()
                monkeypatch.delenv(KEY_VARIABLE)
        monkeypatch.setenv(KEY_VARIABLE, "a-key")
        engine = loaded(url)
        try:
            assert [sent.error for sent in engine.serve(PROMPTS, [0.0] * 3, cut_after_s=5).sent] == [""] * 3
        finally:
            engine.close()
    finally:
        process.end()


def test_a_key_that_the_server_repeats_is_hidden_in_the_errors_of_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    address = address_of("https://a.example/team/v1/")
    assert (address.host, address.port, address.prefix, address.tls) == ("a.example", 443, "/team", True)
    assert address.hidden("HTTP 401: Bearer secret, key=secret") == "HTTP 401: …, key=…"
    assert "Authorization: Bearer secret\r\n" in address.head("GET", "/x")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http://user:word@host",
        "http://host?key=1",
        "http://host:x",
        "http://h\n",
        "http://127.0.0.1:8000/ü",
        "http://bücher.example",
        "http://my..host:8000",
        f"http://{'a' * 64}.example",
    ],
)
def test_what_is_no_plain_url_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_engine(f"target:{url}")
    assert "\n" not in str(caught.value) and "user:word" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[::1]:8000", "http://a_b.example.", "http://xn--bcher-kva.example/a%C3%BC"])
def test_unusual_addresses_of_servers_are_taken(url: str) -> None:
    assert address_of(url).host in url


def test_without_an_address_or_a_server_one_line_says_so() -> None:
    assert TargetEngine.name in engine_names()
    assert "needs the address" in get_engine("target").available().reason
    url = f"http://127.0.0.1:{free_port()}"
    assert f"no server at {url}: /v1/models: no answer" in get_engine(f"target:{url}").available().reason
    with pytest.raises(UsageError, match="no server at"):
        get_engine(f"target:{url}").space(None, cpu(), WORKLOAD)
    setup = Setup(model=None, device=cpu(), config=Config({"served_model": "x"}), defaults=Config({}), faithful=True)
    with pytest.raises(ServerAnswerError):
        get_engine(f"target:{url}").load(setup)


def asked(engine: LoadedServer, prompts: list[Prompt]) -> list[list[int]]:
    """The token ids that arrive at the server, of a load of its own."""
    engine.reset()
    engine.serve(prompts, [0.01 * at for at in range(len(prompts))], cut_after_s=5)
    seen = engine.ask("GET", "/seen")
    assert isinstance(seen, dict)
    return [one["prompt"] for one in seen["asked"][-len(prompts) :]]


def test_no_load_finds_prompts_of_an_earlier_one_in_the_servers_prefix_cache(server: tuple[str, str]) -> None:
    """By `cache_salt` where there is one, else by other tokens at the start; texts stay as they are."""
    url, owner = server
    requests = parse_workload("synthetic:in=24,out=4,prefix=12").draw("search", 3)
    drawn = [Prompt(token_ids(request, 1000), 4, drawn=True) for request in requests]
    text = Prompt([7, 8, 9], 4)
    engine, other = loaded(url), loaded(url)
    try:
        loads = [asked(one, [*drawn, replace(drawn[0], repeat=1), text]) for one in (engine, engine, other)]
    finally:
        engine.close()
        other.close()
    for *of_load, of_text in loads:
        assert of_text == [7, 8, 9] and {len(ids) for ids in of_load} == {24}
        assert of_load[0][:12] == of_load[1][:12] == of_load[2][:12], "a shared prefix is still shared"
        assert len({tuple(ids) for ids in of_load[:3]}) == 3
    starts = [tuple(ids[:8]) for load in loads for ids in (load[0], load[3])]
    assert len(set(starts)) == (1 if owner == "vllm" else 6)
