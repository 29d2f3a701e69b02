"""The text-generation pipeline with token ids in place of text."""

from typing import Any


def token_pipeline_class() -> type[Any]:
    """The text-generation pipeline, taking token ids in place of text; all else is the pipeline's own."""
    import torch
    import transformers

    class TokenPipeline(transformers.TextGenerationPipeline):  # type: ignore[misc]
        """Prompts of an exact length in, the number of generated tokens beside the text out."""

        def preprocess(self, prompt_text: list[int], **_settings: Any) -> dict[str, Any]:
            ids = torch.tensor([prompt_text])
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "prompt_text": ""}

        def postprocess(self, model_outputs: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
            generated = model_outputs["generated_sequence"].shape[-1] - model_outputs["input_ids"].shape[-1]
            records: list[dict[str, Any]] = super().postprocess(model_outputs, **settings)
            return [{**record, "generated_tokens": generated} for record in records]

    return TokenPipeline
