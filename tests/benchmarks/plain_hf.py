"""A Hugging Face pipeline as anybody would time it, without infertune. Prints `rate NUMBER` for each window."""

import json
import sys
import time
from pathlib import Path

import torch
import transformers

path, job_file, batch_size, windows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
job = json.loads(Path(job_file).read_text())
model = transformers.AutoModelForCausalLM.from_config(
    transformers.AutoConfig.from_pretrained(path), dtype=torch.bfloat16
)
model.generation_config.eos_token_id = None
pipe = transformers.pipeline("text-generation", model=model, tokenizer=transformers.AutoTokenizer.from_pretrained(path))
getattr(pipe, "generation_config", model.generation_config).eos_token_id = None  # until 5.24 a copy
options = {"batch_size": batch_size, "max_new_tokens": job["output_tokens"], "do_sample": False}
for _ in range(2):
    pipe(job["warmup"], **options)
for _ in range(windows):
    started = time.perf_counter()
    pipe(job["prompts"], **options)
    print("rate", len(job["prompts"]) * job["output_tokens"] / (time.perf_counter() - started), flush=True)
