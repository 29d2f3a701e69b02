"""Quantities as people write them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infertune.units import (
    check_duration_s,
    format_bytes,
    format_duration,
    format_percent,
    format_rate,
    parse_duration_s,
    parse_share,
    printable,
    slugify,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("20m", 1200), ("1.5h", 5400), ("1h30m", 5400), (" 2 MIN ", 120), ("1h 1m 1s", 3661)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5d", "1h-3m", "1,5h", "m", "1..5s", "nan", "inf"])
def test_what_is_no_duration_is_refused_with_an_example_or_the_units(text: str) -> None:
    with pytest.raises(ValueError, match=r"90s, 20m or 1h30m|use s, m or h"):
        parse_duration_s(text)


@pytest.mark.parametrize("seconds", [0, -1, 1e6 + 1, float("inf"), float("nan")])
def test_a_duration_that_nothing_can_wait_for_is_refused_with_the_range(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^must be over 0 and at most 277h \(1,000,000 seconds\)$"):
        check_duration_s(seconds)
    assert check_duration_s(1e6) == 1e6


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration_s(f"{hours}h{minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_duration_of_at_least_nothing_or_refused_by_value_error(text: str) -> None:
    try:
        assert parse_duration_s(text) >= 0
    except ValueError as error:
        assert "\n" not in str(error)


@settings(deadline=None)
@given(st.floats(60, 1e6))
def test_a_shown_duration_is_read_back_to_the_unit_shown(seconds: float) -> None:
    assert parse_duration_s(format_duration(seconds)) == pytest.approx(seconds, abs=60 if seconds >= 3599.5 else 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.421, "0.42 s"), (12.4, "12 s"), (59.7, "1m 00s"), (185, "3m 05s"), (7620, "2h 07m")],
)
def test_durations_are_shown_with_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_sizes_have_binary_units() -> None:
    assert [format_bytes(size) for size in (512, 1536, 1.5 * 1024**3, 3 * 1024**4)] == [
        "512 B", "1.5 KiB", "1.5 GiB", "3.0 TiB",
    ]  # fmt: skip


def test_rates_keep_three_figures_and_group_thousands() -> None:
    assert [format_rate(rate) for rate in (0.01234, 12.34, 99.96, 1234.4)] == ["0.0123", "12.3", "100", "1,234"]


def test_a_ratio_is_shown_as_a_signed_change() -> None:
    assert [format_percent(ratio) for ratio in (1.123, 1.0, 0.95)] == ["+12.3%", "+0.0%", "-5.0%"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("NVIDIA H100 80GB", "nvidia-h100-80gb"),
        ("../../etc", "etc"),
        ("Qwen2.5-0.5B", "qwen2.5-0.5b"),
        ("…", "unnamed"),
    ],
)
def test_a_slug_is_lower_case_with_single_dashes(name: str, slug: str) -> None:
    assert slugify(name) == slug


@settings(deadline=None)
@given(st.text())
def test_a_slug_is_a_safe_folder_name_and_its_own_slug(text: str) -> None:
    slug = slugify(text)
    assert slug and "/" not in slug and not slug.startswith((".", "-"))
    assert slugify(slug) == slug


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), (" 2.5 % ", 0.025), ("99%", 0.99)])
def test_a_share_is_read_as_people_write_it(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "0%", "-1%", "100%", "x", "", "%", "nan", "inf%"])
def test_what_is_no_share_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 5% or 0.05"):
        parse_share(text)
    if text in ("5", "0%", "100%"):
        with pytest.raises(ValueError, match=f"^'{text}' is not over 0% and under 100%;"):
            parse_share(text)


@given(st.text())
def test_printable_text_is_one_line_of_printable_characters_of_the_same_length(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and len(shown) == len(text)
    assert all(a == b for a, b in zip(text, shown, strict=True) if a.isprintable())


@pytest.mark.parametrize(
    "character",
    [
        "\0",
        "\a",
        "\n",
        "\r",
        "\t",
        "\x1b",
        "\x7f",
        "\x85",
        "\x9b",
        "\u200b",
        "\u202e",
        "\u2028",
        "\u2066",
        "\ufeff",
        "\ud800",
    ],
)
def test_what_steers_a_terminal_or_cannot_be_seen_becomes_a_replacement_character(character: str) -> None:
    assert printable(f"a{character}b") == "a\ufffdb"


def test_letters_signs_and_every_kind_of_blank_stay() -> None:
    assert printable("Größe 模型 – × ✓ 🙂 [a]") == "Größe 模型 – × ✓ 🙂 [a]"
    assert printable("1\u00a0234\u202f5\u30006") == "1 234 5 6"
