"""Singular and plural."""


def counted(n: int, what: str) -> str:
    """A number and its noun: `1 trial`, `2 launches`."""
    plural = what + ("es" if what.endswith("ch") else "s")
    return f"{n:,} {what if n == 1 else plural}"


def verb_be(n: int) -> str:
    """`is` or `are`."""
    return "is" if n == 1 else "are"


def possessive(n: int) -> str:
    """`its` or `their`."""
    return "its" if n == 1 else "their"


def begins_to(n: int, verb: str) -> str:
    """`begins to VERB` or `begin to VERB`."""
    return f"{'begins' if n == 1 else 'begin'} to {verb}"
