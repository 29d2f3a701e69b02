"""vLLM as anybody would time it, no part of infertune in it. Prints `rate NUMBER` for each window."""

import json
import sys
import time
from pathlib import Path

from vllm import LLM, SamplingParams


def main() -> None:
    path, job_file, max_num_seqs, windows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    job = json.loads(Path(job_file).read_text())
    llm = LLM(model=path, load_format="dummy", max_num_seqs=max_num_seqs, enforce_eager=True)
    wanted = SamplingParams(temperature=0, max_tokens=job["output_tokens"], ignore_eos=True)
    # Token ids, as infertune gives them: tokenizing is not the engine's work.
    tokenizer = llm.get_tokenizer()
    warmup, prompts = (
        [{"prompt_token_ids": tokenizer(text)["input_ids"]} for text in job[k]] for k in ("warmup", "prompts")
    )
    for _ in range(2):
        llm.generate(warmup, wanted, use_tqdm=False)
    for _ in range(windows):
        llm.reset_prefix_cache()
        started = time.perf_counter()
        llm.generate(prompts, wanted, use_tqdm=False)
        print("rate", len(job["prompts"]) * job["output_tokens"] / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
