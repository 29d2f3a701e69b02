"""Parameters of a model that is built on the meta device: all of them, and those that one token passes through."""

from collections.abc import Iterator
from typing import Any

from infertune.domain.sizes import ModelConfig

# How many experts a token is sent to, as configurations name it.
_TOP_K = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_topk", "moe_top_k",
    "moe_k", "num_selected_experts", "top_k",
)  # fmt: skip


# Parts of a multimodal model that text does not pass through.
_NOT_TEXT = frozenset(
    {
        "visual", "vision_tower", "vision_model", "vision_encoder", "image_encoder", "vision_embed_tokens",
        "audio_tower", "audio_model", "audio_encoder", "embed_vision", "embed_audio", "multi_modal_projector",
        "vision_projection", "vision_expert", "connector", "aligner", "modality_projection",
    }
)  # fmt: skip


def build(config: Any, raw: ModelConfig, dtype: str) -> Any:
    """The model of a configuration on the meta device.

    Args:
        config: transformers' configuration.
        raw: The config.json, whose `architectures` says which of its classes the checkpoint has.
        dtype: Of its parameters.

    Raises:
        LookupError: transformers has no model of this configuration that generates text.
    """
    import torch
    import transformers

    floating = getattr(torch, dtype) if dtype in ("float32", "float16", "bfloat16") else torch.bfloat16
    build_one: Any = None
    stated = raw.get("architectures")
    for name in stated if isinstance(stated, list) else ():
        cls: Any = getattr(transformers, name, None) if isinstance(name, str) and name.isidentifier() else None
        if getattr(cls, "config_class", None) is type(config):
            build_one = cls._from_config
            break
    autos = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForSeq2SeqLM")
    for auto in (getattr(transformers, name) for name in autos):
        if build_one is None and type(config) in auto._model_mapping:
            build_one = auto.from_config
    if build_one is None:
        raise LookupError(f"transformers has no model of {type(config).__name__} that generates text")
    with torch.device("meta"):
        try:
            model = build_one(config, dtype=floating, attn_implementation="eager")
        except (ValueError, TypeError, KeyError):  # no eager attention: its own
            model = build_one(config, dtype=floating)
    return model.eval()


def count_all(model: Any) -> int:
    """Every parameter once, shared ones included."""
    return sum(int(parameter.numel()) for parameter in model.parameters())


def count_active(model: Any, config: Any) -> int:
    """Parameters that one token of text passes through: of experts, as many as a token is sent to.

    Raises:
        LookupError: It has experts, and nothing says how many a token is sent to.
    """
    elsewhere = sum(
        int(parameter.numel())
        for name, parameter in model.named_parameters()
        if _NOT_TEXT.intersection(name.split("."))
    )
    active = float(count_all(model) - elsewhere)
    for block, experts in _experts(model):
        size = count_all(experts)
        n, chosen = _number_of(experts, config), _chosen(block, experts, config)
        active -= size * (1 - min(1.0, chosen / n))
    return round(active)


def _experts(model: Any) -> Iterator[tuple[Any, Any]]:
    """Every group of routed experts with the block that it stands in."""
    seen: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in seen[-1:]):
            continue
        if name.rpartition(".")[2] == "experts" or "Experts" in type(module).__name__:
            seen.append(name)
            yield model.get_submodule(name.rpartition(".")[0]), module


def _number_of(experts: Any, config: Any) -> int:
    of_config = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    for owner, names in ((experts, ("num_experts", "n_experts")), (config, of_config)):
        for name in names:
            if isinstance(value := getattr(owner, name, None), int) and value > 0:
                return value
    children = len(list(experts.children()))
    if children > 1:
        return children
    raise LookupError("it has experts, and their number is not known")


def _chosen(block: Any, experts: Any, config: Any) -> int:
    routers = [getattr(block, name, None) for name in ("gate", "router")]
    for owner in (config, block, *routers, experts):
        for name in _TOP_K:
            if isinstance(value := getattr(owner, name, None), int) and not isinstance(value, bool) and value > 0:
                return value
    raise LookupError("it has experts, and how many a token is sent to is not known")
