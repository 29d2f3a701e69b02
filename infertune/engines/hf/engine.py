"""Hugging Face pipelines: `transformers.pipeline("text-generation")`, tuned as its users run it.

A batch is a fixed set of requests: it is padded to its longest prompt and runs until its longest output, so what
matters is how many requests go into a batch and which. Nearly everything changes on a loaded model; only the dtype
needs a new one. Seen with transformers 5.19 and torch 2.13.
"""

import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from infertune.domain.device import Device
from infertune.domain.knobs import Config, Scalar, SearchSpace
from infertune.domain.measurement import EngineFacts, Infeasible
from infertune.domain.models import Model
from infertune.domain.workload import Message, Workload
from infertune.engines.asking import Asked, Understood
from infertune.engines.base import (
    Availability,
    Completion,
    EngineOptions,
    Failure,
    LoadedEngine,
    Prompt,
    Served,
    Setup,
    TokenScores,
    first_line,
)
from infertune.engines.chat_template import chat_token_ids
from infertune.engines.hf import export as hf_export
from infertune.engines.hf.arguments import MODEL_ARGUMENTS, effect_of, understand
from infertune.engines.hf.pipeline import token_pipeline_class
from infertune.engines.hf.space import CURATED, batches_of, pipeline_space, whole
from infertune.engines.installed import installed_versions
from infertune.engines.sizes.child import context_of
from infertune.errors import UsageError

_PACKAGES = ("transformers", "torch", "accelerate", "flash_attn")
_STATIC_CACHE_STEP_TOKENS = 128
_SCORED_TOGETHER = 16  # requests in a batch; greedy answers and scores hardly depend on it (judgement)
_LOGITS_TOGETHER = 2**27  # of one forward pass: 256 MiB in 16 bits (judgement)
_OOM_TYPES = ("OutOfMemoryError", "MemoryError")
_OOM_TEXTS = ("CUDA out of memory", "CUDA error: out of memory", "DefaultCPUAllocator: can't allocate memory")
_REJECTION_TYPES = ("ValueError", "ImportError", "ModuleNotFoundError", "NotImplementedError")


T = TypeVar("T")


class HfEngine:
    """transformers pipelines as infertune knows them without loading any."""

    name: ClassVar[str] = "hf"
    needs_model: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = hf_export.FORMS
    scores: ClassVar[bool] = True
    simulated: bool = False

    def __init__(self, options: EngineOptions) -> None:
        self._python = options.python

    def available(self) -> Availability:
        """The installed version of transformers, or what to install."""
        missing = [name for name in ("transformers", "torch") if name not in self._versions]
        if missing:
            where = f" for {self._python}" if self._python else ""
            reason = f"{' and '.join(missing)} not installed{where}: pip install infertune[hf]"
            return Availability(version=None, reason=reason)
        return Availability(version=self._versions["transformers"])

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """The knobs of a pipeline for this model on this device.

        Raises:
            UsageError: The model does not fit this device's memory.
        """
        if model is None:
            raise UsageError("the hf engine needs a MODEL: a hub id, a folder, or builtin:tiny")
        if model.encoder_decoder:
            raise UsageError(
                f"{model.spec} is an encoder-decoder ({model.model_type}): a text-generation pipeline cannot run it; "
                "take a decoder, such as a model of the Llama, Qwen, Gemma or GPT families"
            )
        return pipeline_space(model, device, workload, flash_attention="flash_attn" in self._versions)

    def understand(self, asked: Asked, model: Model | None, device: Device, workload: Workload) -> Understood:
        """The space with any scalar argument of the model or of `generate()` in it.

        Raises:
            UsageError: There is no such argument, a value is refused, or only the user himself may set it.
        """
        return understand(asked, self.space(model, device, workload), self._python)

    def classify(self, failure: Failure) -> Infeasible | None:
        """Out of memory on a GPU or a CPU; settings that transformers refuses; None for everything else."""
        detail = first_line(f"{failure.error_type}: {failure.message}")
        if _is_out_of_memory(failure.error_type, failure.message):
            return Infeasible(reason="oom", stage=failure.stage, detail=detail)
        if failure.error_type in _REJECTION_TYPES and failure.stage in ("load", "warmup"):
            return Infeasible(reason="rejected", stage=failure.stage, detail=detail)
        return None

    def export(self, served: Served, form: str) -> str:
        """A script that builds the pipeline and runs it on prompts."""
        return hf_export.export(served, form)

    def unseen(self, name: str) -> bool:
        """Whether a setting is one of `generate()` that may spoil answers: a forward pass knows nothing of it."""
        return name not in CURATED and name not in MODEL_ARGUMENTS and effect_of(name) == "lossy"

    def load(self, setup: Setup) -> LoadedEngine:
        """Build the pipeline; called in a worker."""
        assert setup.model, "the hf engine needs a model"
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        if setup.model.weights == "dummy":
            os.environ["HF_HUB_OFFLINE"] = "1"  # all that a dummy model needs lies in its folder
        extra = {name: value for name, value in setup.changed.root.items() if name not in CURATED}
        return LoadedHf(setup.model, setup.device, str(setup.config["dtype"]), extra)

    @cached_property
    def _versions(self) -> dict[str, str]:
        """Installed versions of our packages where the worker will run; none if its interpreter does not answer."""
        try:
            return installed_versions(_PACKAGES, self._python)
        except (OSError, subprocess.SubprocessError):
            return {}


class LoadedHf(LoadedEngine):
    """A pipeline with its model, in a worker."""

    def __init__(self, model: Model, device: Device, dtype: str, extra: Mapping[str, Scalar]) -> None:
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.manual_seed(0)
        self._on_gpu = device.kind == "gpu"
        place = torch.device("cuda:0" if self._on_gpu else "cpu")
        loading = {name: value for name, value in extra.items() if name in MODEL_ARGUMENTS}
        self._generating = {name: value for name, value in extra.items() if name not in MODEL_ARGUMENTS}
        code = bool(loading.pop("trust_remote_code", False))
        source = {"revision": model.revision, "trust_remote_code": code}
        tokenizer = transformers.AutoTokenizer.from_pretrained(model.path, **source)
        if tokenizer.pad_token_id is None:  # a pipeline cannot batch without one; padding is masked, so any will do
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        causal_lm, torch_dtype = transformers.AutoModelForCausalLM, getattr(torch, dtype)
        if model.weights == "dummy":
            config = transformers.AutoConfig.from_pretrained(model.path, **source)
            with place:
                network = causal_lm.from_config(config, dtype=torch_dtype)
        else:
            network = causal_lm.from_pretrained(model.path, dtype=torch_dtype, **source, **loading)
        self._pipe = transformers.pipeline(
            "text-generation",
            model=network.eval(),
            tokenizer=tokenizer,
            device=place,
            pipeline_class=token_pipeline_class(),
        )
        # With no end token every output has exactly the length asked for, at no cost (`min_new_tokens` took 4 to 11%
        # more time on builtin:tiny). Cleared in the model's settings, and in the copy that pipelines had before
        # transformers 5.24: generate() fills what is None in the one from the other.
        self._end_tokens = getattr(self._pipe.model.generation_config, "eos_token_id", None)
        for owner in (self._pipe.model, self._pipe):
            if (settings := getattr(owner, "generation_config", None)) is not None:
                settings.eos_token_id = None
        self._launched_attention = self._attention()
        self._live = Config({"batch_size": 1})
        self._notes: tuple[str, ...] = ()
        self._versions = installed_versions(_PACKAGES)

    def apply(self, live: Config) -> None:
        """Change batch size, order, attention, cache and threads.

        Raises:
            ValueError: The model does not take this attention implementation.
        """
        import torch

        self._set_attention(str(live["attn_implementation"]))
        # Not when nothing changes: the call itself slows torch down, by 11% on two cores (`tests/benchmarks/truth.py`
        # found it), even with the number that it already has.
        if "threads" in live and whole(live["threads"]) != torch.get_num_threads():
            torch.set_num_threads(whole(live["threads"]))
        self._live = live

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        """Run all prompts batch by batch, greedily; a request's latency ends with its batch."""
        started = time.perf_counter()
        batches = batches_of(self._live.root, [len(prompt.token_ids) for prompt in prompts])
        settings = self._generate_settings([[prompts[index] for index in batch] for batch in batches])
        completions: dict[int, Completion] = {}
        for batch in batches:
            records = self._pipe(
                [prompts[index].token_ids for index in batch],
                batch_size=len(batch),
                max_new_tokens=max(prompts[index].output_tokens for index in batch),
                **{"do_sample": False, **settings, **self._generating},
            )
            latency_s = time.perf_counter() - started  # the answers are on the host: the GPU is done
            for index, [record] in zip(batch, records, strict=True):
                output_tokens = min(record["generated_tokens"], prompts[index].output_tokens)
                completions[index] = Completion(output_tokens, latency_s)
        return [completions[index] for index in range(len(prompts))]

    def answer(self, prompts: Sequence[Prompt]) -> Sequence[list[int]]:
        """Greedy answers that end where the model does, in batches of neighbours."""
        import torch

        ends = self._end_tokens if isinstance(self._end_tokens, list) else [self._end_tokens]
        ends = [token for token in ends if token is not None]
        found: list[list[int]] = []
        for batch in _grouped(prompts, lambda prompt: len(prompt.token_ids), _SCORED_TOGETHER):
            ids, mask = self._padded([prompt.token_ids for prompt in batch], left=True)
            with torch.inference_mode():
                outputs = self._pipe.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=max(prompt.output_tokens for prompt in batch),
                    do_sample=False,
                    eos_token_id=ends or None,
                    pad_token_id=self._pipe.tokenizer.pad_token_id,
                )
            for prompt, row in zip(batch, outputs.tolist(), strict=True):
                answer = row[ids.shape[1] :][: prompt.output_tokens]
                stop = next((at + 1 for at, token in enumerate(answer) if token in ends), len(answer))
                found.append(answer[:stop])
        return found

    def score(self, sequences: Sequence[Sequence[int]], top: int, firsts: Sequence[int]) -> Sequence[TokenScores]:
        """Log probabilities by forward passes of batches, under the attention and batch size in force."""
        import torch

        vocab, found = self.vocab_size(), []
        together = min(self.slots(), _SCORED_TOGETHER)
        for batch in _grouped(sequences, len, together, most=_LOGITS_TOGETHER // vocab):
            ids, mask = self._padded(batch, left=False)
            with torch.inference_mode():
                logits = self._pipe.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
                for row, sequence in enumerate(batch):
                    n = len(sequence)
                    logprobs = torch.log_softmax(logits[row, : n - 1].float(), dim=-1)
                    actual = logprobs.gather(1, ids[row, 1:n, None])[:, 0].tolist()
                    values, tokens = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
                    tops = zip(tokens.tolist(), values.tolist(), strict=True)
                    found.append(TokenScores(actual, [dict(zip(*pair, strict=True)) for pair in tops]))
        return found

    def text(self, token_ids: Sequence[int]) -> str:
        """Token ids as text by the model's own tokenizer."""
        return str(self._pipe.tokenizer.decode(list(token_ids)))

    def slots(self) -> int:
        """The batch size."""
        return whole(self._live["batch_size"])

    def facts(self) -> EngineFacts:
        """Versions, and the settings as the model reports them."""
        import torch

        model = self._pipe.model
        return EngineFacts(
            versions=self._versions,
            effective={
                "attn_implementation": self._attention(),
                "dtype": str(model.dtype).removeprefix("torch."),
                "device": str(model.device),
                "threads": str(torch.get_num_threads()),
                "cache_implementation": str(self._live.root.get("cache_implementation", "dynamic")),
                "batch_size": str(self.slots()),
            },
            notes=self._notes,
            context_tokens=context_of(self._text_config()),
        )

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a prompt, as the pipeline would make them."""
        ids: list[int] = self._pipe.tokenizer(text)["input_ids"]
        return ids

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """Token ids by the chat template of the model's own tokenizer."""
        return chat_token_ids(self._pipe.tokenizer, messages)

    def vocab_size(self) -> int:
        """Size of the model's embedding."""
        return int(self._text_config().vocab_size)

    def peak_memory_bytes(self) -> int | None:
        """Peak of the memory that tensors took on a GPU; peak of the process's resident memory on a CPU."""
        import torch

        if self._on_gpu:
            return int(torch.cuda.max_memory_allocated())
        unit_bytes = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes

    def recover(self, error: Exception) -> bool:
        """True after out of memory (its tensors are freed) and after a refused setting; False after other errors."""
        import gc

        import torch

        if isinstance(error, ValueError | ImportError | NotImplementedError):
            return True
        if not _is_out_of_memory(type(error).__name__, str(error)):
            return False
        traceback.clear_frames(error.__traceback__)  # its frames hold the tensors of the failed batch
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()
        return True

    def close(self) -> None:
        """Drop the model."""
        del self._pipe

    def _padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Any, Any]:
        """Token ids and mask of a batch, padded on one side."""
        import torch

        longest, pad = max(map(len, rows)), self._pipe.tokenizer.pad_token_id
        ids, mask = [], []
        for row in rows:
            gap, real = [pad] * (longest - len(row)), [1] * len(row)
            none = [0] * len(gap)
            ids.append([*gap, *row] if left else [*row, *gap])
            mask.append([*none, *real] if left else [*real, *none])
        place = self._pipe.model.device
        return torch.tensor(ids, device=place), torch.tensor(mask, device=place)

    def _set_attention(self, wanted: str) -> None:
        """Set the attention implementation; the default means what transformers chose for this model at load.

        Raises:
            ValueError: The model does not take it.
        """
        if wanted == "sdpa" and self._launched_attention != "sdpa":
            self._notes = (f"this model has no sdpa attention: {self._launched_attention} runs in its place",)
            wanted = self._launched_attention
        self._pipe.model.set_attn_implementation(wanted)
        if self._attention() != wanted:  # a model that cannot switch only warns
            raise ValueError(f"{type(self._pipe.model).__name__} keeps {self._attention()} instead of {wanted}")

    def _attention(self) -> str:
        return str(self._pipe.model.config._attn_implementation)

    def _text_config(self) -> Any:
        return self._pipe.model.config.get_text_config()

    def _generate_settings(self, batches: Sequence[Sequence[Prompt]]) -> dict[str, Scalar]:
        """Arguments of generate() that hold for a whole job."""
        if self._live.root.get("cache_implementation") != "static":
            return {}
        # One cache length for the job, in coarse steps: every other length is another shape to allocate and compile.
        longest = max(_padded_tokens(batch) for batch in batches)
        steps = -(-longest // _STATIC_CACHE_STEP_TOKENS)
        settings: dict[str, Scalar] = {"cache_implementation": "static"}
        if hasattr(self._pipe.model.generation_config, "max_cache_len"):  # older versions lack it
            settings["max_cache_len"] = steps * _STATIC_CACHE_STEP_TOKENS
        if self._live.root.get("disable_compile"):
            settings["disable_compile"] = True
        return settings


def _grouped(items: Sequence[T], length: Callable[[T], int], size: int, most: int | None = None) -> list[list[T]]:
    """Neighbours in groups of a size, of fewer where the padded group would have more than `most` tokens."""
    groups: list[list[T]] = []
    for item in items:
        group = [*groups[-1], item] if groups else [item]
        full = not groups or len(group) > size
        if full or (most is not None and max(map(length, group)) * len(group) > most):
            groups.append([item])
        else:
            groups[-1] = group
    return groups


def _padded_tokens(batch: Sequence[Prompt]) -> int:
    """The length to which every request of a batch grows."""
    return max(len(prompt.token_ids) for prompt in batch) + max(prompt.output_tokens for prompt in batch)


def _is_out_of_memory(error_type: str, message: str) -> bool:
    """CPU allocations fail with a plain RuntimeError, so the text decides."""
    return error_type in _OOM_TYPES or any(text in message for text in _OOM_TEXTS)
