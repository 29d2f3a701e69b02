"""The folder of profiles: found, filtered, never left, and a tune told what it holds."""

import os
from pathlib import Path

import pytest

from infertune.domain.device import Device
from infertune.domain.knobs import Config
from infertune.errors import UsageError
from infertune.profiles.profile import Profile, profile_path
from infertune.profiles.promised import Promised
from infertune.profiles.store import earlier_answer, place_of, read_store
from tests.profiles.test_profile import model, profile


def filed(folder: Path, kept: Profile) -> Path:
    return kept.save(place_of(folder, kept.fingerprint, asked=kept.asked)[0])


def of(gpu: str = "NVIDIA H100", name: str = "tiny", engine_version: str = "1") -> Profile:
    device = Device(kind="gpu", name=gpu, memory_bytes=80 * 1024**3, cores=8, driver="570.1", power_limit_w=700.0)
    changes = {"device": device, "model": model(name), "engine_version": engine_version}
    return profile(fingerprint=profile().fingerprint.model_copy(update=changes))


def test_every_profile_is_found_and_filtered_by_gpu_and_model(tmp_path: Path) -> None:
    for gpu, name in (("NVIDIA H100", "qwen"), ("NVIDIA H100", "llama"), ("NVIDIA L4", "llama")):
        filed(tmp_path, of(gpu, name))
    kept, notes = read_store(tmp_path)
    assert len(kept) == 3 and notes == []
    assert [item.path for item in kept] == sorted(item.path for item in kept)
    assert len([item for item in kept if item.matches(gpu="h100", model=None)]) == 2
    assert len([item for item in kept if item.matches(gpu="nvidia-l4", model="LLAMA")]) == 1
    assert not [item for item in kept if item.matches(gpu="a100", model=None)]


def test_what_is_no_profile_is_skipped_with_a_note(tmp_path: Path) -> None:
    good = filed(tmp_path, of())
    (tmp_path / "notes.yaml").write_text("a: 1\n")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "readme.md").write_text("not looked at")
    kept, notes = read_store(tmp_path)
    assert [item.path for item in kept] == [good]
    assert [note.split(":")[0] for note in notes] == ["skipped"] * 2
    assert any("no profile that this version" in note for note in notes) and any("it is a pipe" in n for n in notes)


def test_a_file_at_which_the_parser_stumbles_is_one_note(tmp_path: Path) -> None:
    good = filed(tmp_path, of())
    for number, text in enumerate(('x: !!int ""', 'x: "\\UFFFFFFFF"', "x: 190" + ":59" * 4000 + ".5")):
        (tmp_path / f"{number}.yaml").write_text(text)
    kept, notes = read_store(tmp_path)
    assert [item.path for item in kept] == [good]
    assert len(notes) == 3 and all("line 1: " in note for note in notes)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    store, outside = tmp_path / "profiles", tmp_path / "outside"
    secret = filed(outside, of())
    good = filed(store, of())
    (store / "out.yaml").symlink_to(secret)
    (store / "folder").symlink_to(outside, target_is_directory=True)
    (store / "circle.yaml").symlink_to("circle.yaml")
    (store / "passwd.yaml").symlink_to("/etc/passwd")
    (store / "within.yaml").symlink_to(good)
    kept, notes = read_store(store)
    assert {item.path.name for item in kept} == {good.name, "within.yaml"}
    assert len(notes) == 3 and all("link out of" in note for note in notes if "circle" not in note)
    assert not any("root:" in note for note in notes)


def test_a_missing_folder_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tune something first"):
        read_store(tmp_path / "none")


def test_a_tune_is_told_of_the_same_question_with_its_answer(tmp_path: Path) -> None:
    kept = of()
    path = filed(tmp_path, kept)
    said = earlier_answer(tmp_path, kept.fingerprint)
    assert said and str(path) in said and "has answered this: better (+" in said and "slots=2" in said


def test_profiles_of_two_recorded_tables_have_a_file_each(tmp_path: Path) -> None:
    """No model tells them apart: the version of an engine without one says what it answers from."""
    tables = [of(engine_version=f"table {digit * 16}") for digit in "ab"]
    tables = [
        one.model_copy(update={"fingerprint": one.fingerprint.model_copy(update={"model": None})}) for one in tables
    ]
    paths = [filed(tmp_path, one) for one in tables]
    assert paths[0] != paths[1] and [place_of(tmp_path, one.fingerprint)[0] for one in tables] == paths
    assert "no-model--" in paths[0].name and "no-model-" in paths[1].name
    said = [earlier_answer(tmp_path, one.fingerprint) for one in tables]
    assert all(text and "has answered this" in text for text in said)


def test_another_board_of_the_same_kind_is_the_same_question(tmp_path: Path) -> None:
    kept = of()
    filed(tmp_path, kept)
    board = kept.fingerprint.device.model_copy(update={"uuids": ("GPU-other",)})
    said = earlier_answer(tmp_path, kept.fingerprint.model_copy(update={"device": board}))
    assert said and "has answered this" in said


def test_a_tune_is_told_of_a_profile_that_a_new_engine_made_stale(tmp_path: Path) -> None:
    filed(tmp_path, of(engine_version="0.31.0"))
    said = earlier_answer(tmp_path, of(engine_version="0.32.0").fingerprint)
    assert said and "something else" in said and "engine version was 0.31.0 and is now 0.32.0" in said


def test_there_is_no_note_without_an_earlier_profile(tmp_path: Path) -> None:
    assert earlier_answer(tmp_path / "none", of().fingerprint) is None


def test_a_file_that_is_no_profile_does_not_stop_a_tune(tmp_path: Path) -> None:
    path = profile_path(tmp_path / "p", of().fingerprint)
    path.parent.mkdir(parents=True)
    path.symlink_to(filed(tmp_path / "elsewhere", of()))
    said = earlier_answer(tmp_path / "p", of().fingerprint)
    assert said and "cannot be used" in said and "link out of" in said
    path.unlink()
    os.mkfifo(path)
    said = earlier_answer(tmp_path / "p", of().fingerprint)
    assert said and "it is a pipe" in said


def test_another_objective_is_another_question_with_a_file_of_its_own(tmp_path: Path) -> None:
    kept = of()
    path = filed(tmp_path, kept)
    assert earlier_answer(tmp_path, kept.fingerprint, "energy") is None
    energy = profile_path(tmp_path, kept.fingerprint, "energy")
    assert energy.name == f"{path.stem}--energy.yaml"
    kept.model_copy(update={"objective": "energy", "unit": "J/token"}).save(energy)
    said = earlier_answer(tmp_path, kept.fingerprint, "energy")
    assert said and str(energy) in said and "has answered this" in said
    kept.save(energy)
    said = earlier_answer(tmp_path, kept.fingerprint, "energy")
    assert said and "something else and will be replaced: objective was throughput and is now energy" in said


def test_other_limits_are_another_question(tmp_path: Path) -> None:
    kept = of()
    filed(tmp_path, kept)
    assert earlier_answer(tmp_path, kept.fingerprint, "throughput", ("power_w<500",)) is None
    limited = kept.model_copy(update={"slo": ("power_w<500",)})
    assert filed(tmp_path, limited) != filed(tmp_path, kept)
    said = earlier_answer(tmp_path, kept.fingerprint, "throughput", ("power_w<500",))
    assert said and "has answered this" in said


def of_case(workload: str = "aaaaaaaa11", config_hash: str = "bbbbbbbb22", held: int | None = None) -> Profile:
    kept = of()
    assert kept.fingerprint.model
    changes = {
        "workload": kept.fingerprint.workload.model_copy(update={"content_hash": workload}),
        "model": kept.fingerprint.model.model_copy(update={"config_hash": config_hash}),
        "held": Config({} if held is None else {"seed": held}),
    }
    return kept.model_copy(update={"fingerprint": kept.fingerprint.model_copy(update=changes)})


def test_cases_whose_names_are_the_same_have_a_file_each_and_find_it_again(tmp_path: Path) -> None:
    cases = [
        of_case(),
        of_case(workload="cccccccc33"),
        of_case(config_hash="dddddddd44"),
        of_case(held=1),
        of_case(held=2),
    ]
    cases.append(of_case("cccccccc33", "dddddddd44"))
    paths = [filed(tmp_path, case) for case in cases]
    assert len(set(paths)) == len(cases)
    assert paths[0] == profile_path(tmp_path, cases[0].fingerprint), "a case alone keeps its plain name"
    plain = paths[0].stem
    assert paths[1].stem == f"{plain}-cccccccc"
    assert paths[3].stem.startswith(f"{plain}--") and paths[2].stem.partition("--")[0] != plain.partition("--")[0]
    for case, path in zip(cases, paths, strict=True):
        assert place_of(tmp_path, case.fingerprint) == (path, case)
    paths[0].unlink()
    assert filed(tmp_path, cases[1]) == paths[1], "its file stays its own when the plain name is free again"


def test_a_run_of_another_engine_version_is_the_same_case(tmp_path: Path) -> None:
    path = filed(tmp_path, of(engine_version="0.31.0"))
    assert place_of(tmp_path, of(engine_version="0.32.0").fingerprint)[0] == path


@pytest.mark.parametrize("answer", ["better", "no better than the default", "unconfirmed"])
def test_a_profile_is_proven_by_a_final_comparison_and_not_by_the_word(answer: str) -> None:
    """A search that finds nothing to compare says "no better" too."""
    assert not profile(answer=answer, gain=None).proven
    assert profile(answer=answer, gain=(1.1, 1.05, 1.2)).proven


def test_another_load_of_a_goodput_is_another_case(tmp_path: Path) -> None:
    cases = [
        of().model_copy(update={"slo": ("ttft_s<0.5",), "serving": Promised(arrivals=arrivals, attain=attain)})
        for arrivals, attain in (("poisson", 0.9), ("poisson", 0.99), ("gamma:3", 0.9))
    ]
    assert len({filed(tmp_path, case) for case in cases}) == 3
    assert [place_of(tmp_path, case.fingerprint, asked=case.asked)[1] for case in cases] == cases
