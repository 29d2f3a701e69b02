"""`python -m infertune`."""

from infertune.cli import main

main()
