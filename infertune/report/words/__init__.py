"""What a report says in sentences: plain text, the same for the page, for Markdown and for the terminal."""

from infertune.report.words.answer import (
    answer_sentence,
    base_text,
    gain_text,
    headline,
    interval_text,
    settings_text,
    transfer_sentence,
    use_sentence,
)
from infertune.report.words.devices import device_sentences
from infertune.report.words.landscape import (
    cliff_sentence,
    cliffs,
    edge_sentences,
    importance_sentences,
    noise_sentence,
    peak_sentence,
    plateau_sentences,
    step_sentence,
)
from infertune.report.words.method import (
    caveat_sentences,
    ending_sentence,
    method_sentences,
    selection_sentence,
    spent_sentences,
)

__all__ = [
    "answer_sentence", "base_text", "caveat_sentences", "cliff_sentence", "cliffs", "device_sentences",
    "edge_sentences", "ending_sentence", "gain_text", "headline", "importance_sentences", "interval_text",
    "method_sentences",
    "noise_sentence", "peak_sentence", "plateau_sentences", "selection_sentence", "settings_text",
    "spent_sentences", "step_sentence", "transfer_sentence", "use_sentence",
]  # fmt: skip
