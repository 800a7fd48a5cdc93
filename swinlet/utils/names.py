"""Names that people see."""

from collections.abc import Container
from itertools import count


def distinct(name: str, taken: Container[str]) -> str:
    """The name itself, or the first of "name (2)", "name (3)", ... that is not taken."""
    if name not in taken:
        return name
    return next(text for i in count(2) if (text := f"{name} ({i})") not in taken)
