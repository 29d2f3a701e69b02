"""What number formats do to answers, for every engine alike."""

from collections.abc import Iterable

from infertune.domain.knobs import Effect, Scalar

# Bits of the fraction and of the exponent (IEEE 754; bfloat16 as in TensorFlow and PyTorch).
_BITS = {"float32": (23, 8), "float16": (10, 5), "bfloat16": (7, 8)}
_OTHER_NAMES = {"float": "float32", "half": "float16", "auto": None}


def dtype_effect(values: Iterable[Scalar], checkpoint: str) -> Effect:
    """`lossy` if one of the formats has fewer bits of fraction or exponent than the checkpoint's, else `numeric`.

    A format that is not known here counts as lossy; `auto` is the checkpoint's own.
    """
    names = {_OTHER_NAMES.get(str(value), str(value)) for value in values} - {None, checkpoint}
    if any(name not in _BITS or checkpoint not in _BITS for name in names):
        return "lossy"
    own = _BITS[checkpoint] if names else (0, 0)
    narrower = [name for name in names if any(bits < o for bits, o in zip(_BITS[str(name)], own, strict=True))]
    return "lossy" if narrower else "numeric"
