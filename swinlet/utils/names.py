"""Names that people see."""

from collections.abc import Collection
from itertools import count


def distinct(name: str, taken: Collection[str]) -> str:
    """The name itself, or the first of "name (2)", "name (3)", ... that is not taken."""
    if name not in taken:
        return name
    return next(text for i in count(2) if (text := f"{name} ({i})") not in taken)


def printable(text: str) -> str:
    """Without what turns the text around it, or cannot be encoded: control characters, halves of surrogate pairs."""
    return "".join(character if character.isprintable() else " " for character in text)
