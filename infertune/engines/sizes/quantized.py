"""How many bytes a model's weights would take, from its quantization config: an estimate, where no files are here.

Matrices of linear layers and of experts are stored in fewer bits, with a scale (and perhaps a zero point) for each
group; embeddings, norms, biases and what the config leaves out stay in the model's dtype.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from infertune.domain.sizes import ModelConfig, quantization_method


class NotEstimatedError(Exception):
    """The quantization config does not say enough, or is of a method that is not known here."""


@dataclass(frozen=True)
class _Matrix:
    """A weight that can be quantized, with the name of its layer."""

    layer: str
    rows: int
    columns: int
    expert: bool

    @property
    def elements(self) -> int:
        """Of the matrix, or of those of all experts."""
        return self.rows * self.columns


Stored = Callable[[_Matrix], float]  # bytes of a quantized matrix


def estimate_bytes(model: Any, quantization: ModelConfig | None, element_bytes: int) -> int:
    """Bytes of a model's weights.

    Args:
        model: The model, on the meta device.
        quantization: Its quantization config, None if it has none.
        element_bytes: Of what is not quantized.

    Raises:
        NotEstimatedError: The quantization is not known here.
    """
    plain = sum(int(parameter.numel()) for parameter in model.parameters()) * element_bytes
    if quantization is None:
        return plain
    try:
        stored, left_out = _rule(quantization)
    except (TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        raise NotEstimatedError(f"its quantization config cannot be read ({error})") from None
    total = float(plain)
    for matrix in _matrices(model):
        if not left_out(matrix):
            total += stored(matrix) - matrix.elements * element_bytes
    return round(total)


def _matrices(model: Any) -> Iterator[_Matrix]:
    """The weights of linear layers and of experts; embeddings and what is tied to them are none."""
    import torch

    tied = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for name, module in model.named_modules():
        transposed = type(module).__name__ == "Conv1D"
        if isinstance(module, torch.nn.Linear) or transposed:
            if id(module.weight) not in tied:
                rows, columns = reversed(module.weight.shape) if transposed else module.weight.shape
                yield _Matrix(name, int(rows), int(columns), ".experts." in f".{name}.")
            continue
        for part, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 3 and ("Experts" in type(module).__name__ or name.endswith("experts")):
                n, rows, columns = (int(size) for size in parameter.shape)
                yield _Matrix(f"{name}.{part}", n * rows, columns, True)


def _rule(given: ModelConfig) -> tuple[Stored, Callable[[_Matrix], bool]]:
    """How matrices are stored, and which are left as they are."""
    method = quantization_method(given).replace("_", "-").lower()
    skipped = _names(given, "modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules", "exclude",
                     "llm_int8_skip_modules")  # fmt: skip
    head = [] if given.get("lm_head") is True else ["lm_head"]
    images = ["re:.*(vision|visual|image|audio|multi_modal_projector)"]
    if method in ("awq", "gptq", "gptqmodel", "auto-round", "intel/auto-round", "autoround"):
        bits, group = _number(given, "bits", "w_bit"), _number(given, "group_size", "q_group_size", default=128)
        return _grouped(bits, group, scale_bytes=2, zero_bits=bits), _skipping([*skipped, *head, *images])
    if method in ("fp8", "fbgemm-fp8", "eetq"):
        block = given.get("weight_block_size")
        scale = 4 / (block[0] * block[1]) if isinstance(block, list | tuple) and len(block) == 2 else 0.0
        return (lambda m: m.elements * (1 + scale) + (0 if scale else 4 * m.rows)), _skipping([*skipped, *head])
    if method == "mxfp4":
        leaves = _skipping(skipped)
        return _grouped(4, 32, scale_bytes=1), lambda m: not m.expert or leaves(m)
    if method == "compressed-tensors":
        return _compressed(given, skipped)
    if method == "bitsandbytes":
        names = skipped or head
        if given.get("load_in_4bit") or given.get("_load_in_4bit"):
            scale = 1 / 64 + 4 / (64 * 256) if given.get("bnb_4bit_use_double_quant") else 4 / 64
            return (lambda m: m.elements * (0.5 + scale)), _skipping(names)
        return (lambda m: m.elements + 4.0 * m.rows), _skipping(names)
    if method == "modelopt":
        algorithm = str(given.get("quant_algo") or "").upper()
        if "NVFP4" in algorithm or "FP4" in algorithm:
            return _grouped(4, 16, scale_bytes=1), _skipping([*skipped, *head])
        if "FP8" in algorithm or "INT8" in algorithm:
            return (lambda m: float(m.elements)), _skipping([*skipped, *head])
    if method == "hqq":
        inner = given.get("quant_config")
        weight = inner.get("weight_quant_params") if isinstance(inner, dict) else None
        if isinstance(weight, dict):
            bits, group = _number(weight, "nbits"), _number(weight, "group_size", default=64)
            return _grouped(bits, group, scale_bytes=2, zero_bits=16), _skipping([*skipped, *head])
    if method == "quanto" and (found := re.fullmatch(r"(?:int|float)(2|4|8)", str(given.get("weights")))):
        return _grouped(int(found[1]), 128, scale_bytes=2), _skipping([*skipped, *head])
    if method == "bitnet":
        return (lambda m: m.elements / 4), _skipping([*skipped, *head])
    raise NotEstimatedError(f"the quantization {method[:40]!r} is not one whose size can be estimated")


def _compressed(given: ModelConfig, skipped: list[str]) -> tuple[Stored, Callable[[_Matrix], bool]]:
    """The groups of compressed-tensors: each names the layers that it stands for and how their weights are stored."""
    groups: list[tuple[list[str], Stored]] = []
    configured = given.get("config_groups")
    for group in configured.values() if isinstance(configured, dict) else ():
        weights = group.get("weights")
        if not isinstance(weights, dict):  # only activations are quantized
            continue
        bits, size = _number(weights, "num_bits"), weights.get("group_size")
        small_scale = weights.get("type") == "float" and bits == 4
        zero_bits = 0 if weights.get("symmetric", True) else bits
        rule = _grouped(bits, size if isinstance(size, int) else -1, 1 if small_scale else 2, zero_bits)
        groups.append((_names(group, "targets"), rule))
    if not groups:
        raise NotEstimatedError("its quantization config has no group of weights")

    def of(matrix: _Matrix) -> Stored | None:
        return next((rule for names, rule in groups if "Linear" in names or _named(matrix.layer, names)), None)

    def stored(matrix: _Matrix) -> float:
        rule = of(matrix)
        assert rule, "only what a group stands for is stored by it"
        return rule(matrix)

    leaves = _skipping(skipped)
    return stored, lambda matrix: leaves(matrix) or of(matrix) is None


def _grouped(bits: int, group: int, scale_bytes: int, zero_bits: int = 0) -> Stored:
    """Some bits an element, and a scale (and zero point) for each group of a row; a group of -1 is the row."""

    def stored(matrix: _Matrix) -> float:
        groups = matrix.rows * -(-matrix.columns // group if group > 0 else -1)
        return matrix.elements * bits / 8 + groups * (scale_bytes + zero_bits / 8)

    return stored


def _skipping(names: list[str]) -> Callable[[_Matrix], bool]:
    return lambda matrix: _named(matrix.layer, names)


def _named(layer: str, names: list[str]) -> bool:
    """Whether a layer is one of those named: by its path or a part of it, a pattern with *, or `re:EXPRESSION`."""
    for name in names:
        if name.startswith("re:"):
            try:
                if re.match(name[3:], layer):
                    return True
            except re.error:
                continue
        elif f".{name}." in f".{layer}." or fnmatch.fnmatchcase(layer, name) or fnmatch.fnmatchcase(layer, f"{name}.*"):
            return True
    return False


def _names(given: ModelConfig, *fields: str) -> list[str]:
    """The names under the first of these fields that has any."""
    for field in fields:
        value = given.get(field)
        if isinstance(value, list | tuple) and value:
            return [name for name in value if isinstance(name, str)]
    return []


def _number(given: ModelConfig, *fields: str, default: int | None = None) -> int:
    for field in fields:
        value = given.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    if default is None:
        raise NotEstimatedError(f"its quantization config has no {fields[0]}")
    return default
