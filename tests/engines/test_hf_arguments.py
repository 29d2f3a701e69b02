"""Arguments of pipelines beyond their knobs: the model's own, and those of `generate()` of the installed library."""

import pytest

from infertune.domain.knobs import Scalar, SearchSpace
from infertune.domain.models import resolve_model
from infertune.domain.workload import parse_workload
from infertune.engines import read_command
from infertune.engines.asking import Asked, Understood
from infertune.engines.base import EngineOptions
from infertune.engines.hf.arguments import is_plain, understand
from infertune.engines.hf.engine import HfEngine
from infertune.errors import UsageError
from tests.engines.test_hf import CPU


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    workload = parse_workload("synthetic:in=8,out=8")
    return HfEngine(EngineOptions()).space(resolve_model("builtin:tiny"), CPU, workload)


def held(space: SearchSpace, **settings: Scalar) -> Understood:
    """What comes of `--set`, typed by the user himself."""
    return understand(Asked(held=settings, typed=frozenset(settings)), space, None)


def refusal(space: SearchSpace, asked: Asked) -> str:
    with pytest.raises(UsageError) as caught:
        understand(asked, space, None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_argument_of_the_model_is_held_for_the_default_too(space: SearchSpace) -> None:
    found = held(space, use_safetensors=True)
    assert found.held.root == found.for_all.root == {"use_safetensors": True}
    knob = found.space["use_safetensors"]
    assert (knob.values, knob.default, knob.effect) == ((None, True), None, "exact")


def test_a_knob_may_be_held_beyond_its_ladder_and_is_no_default_of_the_engine(space: SearchSpace) -> None:
    found = held(space, batch_size=3)
    assert 3 in found.space["batch_size"].values and found.held.root == {"batch_size": 3} and not found.for_all.root
    assert "batch_size" in refusal(space, Asked(held={"batch_size": 0}))
    assert "dtype" in refusal(space, Asked(held={"dtype": "float3"}))


def test_dashes_and_underscores_are_the_same_name(space: SearchSpace) -> None:
    found = understand(Asked(searched={"batch-size": (2, 3)}), space, None)
    assert found.searched == {"batch_size": (2, 3)}


@pytest.mark.parametrize(
    ("name", "value"),
    [("trust_remote_code", True), ("cache_dir", "/x"), ("code_revision", "main"), ("attn_implementation", "a/kernel")],
)
def test_what_can_load_code_or_reach_files_must_be_typed_by_the_user(
    space: SearchSpace, name: str, value: Scalar
) -> None:
    message = refusal(space, Asked(known={name: (value,)}, source="profile.yaml"))
    assert message.startswith(f"profile.yaml sets {name}=") and f"--set {name}=" in message
    if name != "attn_implementation":
        assert held(space, **{name: value}).held[name] == value


def test_a_switch_that_is_off_opens_nothing(space: SearchSpace) -> None:
    found = understand(Asked(known={"trust_remote_code": (False,)}), space, None)
    assert found.known["trust_remote_code"] is False


def test_a_servers_command_starts_no_pipeline(space: SearchSpace) -> None:
    command = read_command("vllm", "vllm serve m/x")
    assert "give a saved profile" in refusal(space, Asked(command=command))


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("num_beams", 2, True), ("do_sample", True, True), ("dtype", "float32", True), ("cache_dir", "x", False),
        ("prompt", "a b", False), ("custom_generate", "x", False), ("a.b", 1, False), ("x", "../y", False),
    ],
)  # fmt: skip
def test_exports_write_plain_settings_only(name: str, value: Scalar, plain: bool) -> None:
    assert is_plain(name, value) == plain


@pytest.mark.hf
class TestInstalled:
    """What the installed transformers says."""

    def test_generation_arguments_are_searched_and_count_as_lossy(self, space: SearchSpace) -> None:
        found = understand(Asked(searched={"num_beams": (1, 2), "use_cache": (True, False)}), space, None)
        beams = found.space["num_beams"]
        assert beams.kind == "choice" and {1, 2} <= set(beams.values) and beams.effect == "lossy"
        assert found.space["use_cache"].effect == "numeric"

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("num_beams", "many", "num_beams=many: it is a whole number"),
            ("num_beams", True, "num_beams=true: it is a whole number"),
            ("do_sample", "yes", "do_sample=yes: it is true or false"),
            ("temperature", "hot", "temperature=hot: it is a number"),
            ("max_new_tokens", 5, "infertune sets it itself"),
            ("num_beans", 2, "transformers has no scalar argument 'num_beans'; did you mean num_beams"),
            ("xyzzy", 2, "transformers has no scalar argument 'xyzzy'"),
        ],
    )
    def test_what_cannot_be_is_one_line(self, space: SearchSpace, name: str, value: Scalar, message: str) -> None:
        assert message in refusal(space, Asked(held={name: value}, typed=frozenset([name])))

    def test_what_another_version_had_is_left_out_of_a_profiles_settings(self, space: SearchSpace) -> None:
        found = understand(Asked(known={"no_longer_there": (2,)}), space, None)
        assert "no_longer_there" not in found.space and "no_longer_there" not in found.known


def test_what_acts_only_while_text_is_generated_is_not_seen_by_a_forward_pass() -> None:
    engine = HfEngine(EngineOptions())
    assert all(map(engine.unseen, ("repetition_penalty", "do_sample", "num_beams")))
    assert not any(map(engine.unseen, ("batch_size", "dtype", "use_cache", "trust_remote_code")))
