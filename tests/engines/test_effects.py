"""What number formats do to answers."""

import pytest

from infertune.engines.effects import dtype_effect


@pytest.mark.parametrize(
    ("values", "checkpoint", "effect"),
    [
        (("bfloat16",), "bfloat16", "numeric"),
        (("bfloat16", "float32"), "bfloat16", "numeric"),
        (("auto", "float"), "bfloat16", "numeric"),
        (("float32", "bfloat16"), "float32", "lossy"),
        (("float32", "half"), "float32", "lossy"),
        (("bfloat16", "float16"), "bfloat16", "lossy"),  # fewer bits of exponent
        (("float16", "bfloat16"), "float16", "lossy"),  # fewer bits of fraction
        (("bfloat16", "float8_e4m3"), "bfloat16", "lossy"),
    ],
)
def test_a_format_narrower_than_the_checkpoint_loses_something(
    values: tuple[str, ...], checkpoint: str, effect: str
) -> None:
    assert dtype_effect(values, checkpoint) == effect
