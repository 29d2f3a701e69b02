"""A stand-in for `llama-server`: answers what infertune asks before a launch, from the help of build 11434."""

import sys
from pathlib import Path

HELP = Path(__file__).with_name("help.txt")
WHOLE = {"--threads", "--parallel", "--ctx-size", "--batch-size", "--poll", "--cache-ram", "--threads-http"}


def main(words: list[str]) -> int:
    if words == ["--help"]:
        print(HELP.read_text())
    elif words == ["--list-devices"]:
        print("Available devices:\n  (none)")
    else:
        for word, value in zip(words, words[1:], strict=False):
            if word in WHOLE and not value.lstrip("-").isdigit():
                print(f'error while handling argument "{word}": stoi\n', file=sys.stderr)
                return 1
        print("version: 0.6.0-dev (build 11434, commit 1a2b3c4)\nbuilt with cc for Linux", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
