"""What the fuzzers share: how much they try, damage to valid files, and the count of cases for docs/reliability.md."""

import os
import resource
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from swinlet.errors import SwinletError

FACTOR = float(os.environ.get("SWINLET_FUZZ", "1"))
"""SWINLET_FUZZ=25 tries 25 times as many cases, and random ones (``make fuzz``)."""

# By default the same cases for everybody: a suite that fails at random says nothing about a change.
settings.register_profile("default", derandomize=True, database=None)
settings.register_profile("soak", derandomize=False, database=None, print_blob=True)
settings.load_profile("soak" if FACTOR != 1 else "default")

TRIED: defaultdict[str, Counter[str]] = defaultdict(Counter)

_MEMORY = 1 << 30  # bytes that a fuzzer may take more than the process before it; files have a few kilobytes
_SPECIAL = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80",
    b"99999999",
    b"-1",
    b"\n",
]


def fuzz(cases: int) -> Callable[[Any], Any]:
    """So many cases; one that takes ten seconds is a fault."""
    return settings(
        max_examples=max(1, round(cases * FACTOR)),
        deadline=timedelta(seconds=10),
        suppress_health_check=list(HealthCheck),
    )


def attempt(what: str, call: Callable[[], object], error: type[SwinletError]) -> str | None:
    """The message of the one kind of error allowed, or None; anything else is raised. Counted."""
    before = _peak()
    message = None
    try:
        call()
    except error as caught:
        message = str(caught)
        assert message.strip()
        message.encode()  # any terminal and log file takes it
    TRIED[what]["accepted" if message is None else "refused"] += 1
    assert _peak() - before < _MEMORY, "memory"
    return message


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def mutated(*originals: bytes) -> st.SearchStrategy[bytes]:
    """Valid files with a few flipped bits, overwritten, removed, repeated or exchanged bytes, or cut short."""
    place = st.floats(0, 1, exclude_max=True)
    change = st.one_of(
        st.tuples(st.just("flip"), place, st.integers(0, 7)),
        st.tuples(st.just("put"), place, st.sampled_from(_SPECIAL) | st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("remove"), place, st.integers(1, 64)),
        st.tuples(st.just("repeat"), place, st.integers(1, 64)),
        st.tuples(st.just("cut"), place, st.none()),
        st.tuples(st.just("splice"), place, st.tuples(st.sampled_from(originals), place)),
    )
    # Damage that leaves a file in one piece is likelier to reach what lies behind the first check.
    return st.builds(_apply, st.sampled_from(originals), st.lists(change, min_size=1, max_size=4))


def _apply(content: bytes, changes: list[tuple[str, float, Any]]) -> bytes:
    for kind, place, value in changes:
        at = int(place * len(content))
        head, tail = content[:at], content[at:]
        if kind == "flip":
            content = head + bytes([tail[0] ^ 1 << value]) + tail[1:] if tail else head
        elif kind == "put":
            content = head + value + tail[len(value) :]
        elif kind == "remove":
            content = head + tail[value:]
        elif kind == "repeat":
            content = head + tail[:value] + tail
        elif kind == "cut":
            content = head
        else:
            other, other_place = value
            content = head + other[int(other_place * len(other)) :]
    return content
