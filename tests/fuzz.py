"""What the fuzzers share: how much they try, damage to valid files, and the count of cases for docs/reliability.md.

Profiles of hypothesis: "default" tries the same cases in every run; "soak" many others (``make fuzz``), whose seed is
printed (tests/conftest.py). A case that it finds becomes a test of its own, for the default to keep.
"""

import hashlib
import os
import resource
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from swinlet.errors import SwinletError

DEFAULT, SOAK = "default", "soak"
_SHARED: dict[str, Any] = {"database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile(DEFAULT, derandomize=True, max_examples=100, **_SHARED)
settings.register_profile(
    SOAK,
    derandomize=False,
    print_blob=True,
    max_examples=round(100 * float(os.environ.get("SWINLET_FUZZ", "30"))),  # times as many as the default
    **_SHARED,
)
settings.load_profile(DEFAULT)

# Hypothesis mixes in constants of the modules that are imported so far: cases would be others after each change of the
# package, and depend on the tests that ran before in the process (tests/test_fuzzing.py).
providers._get_local_constants = Constants  # pyright: ignore[reportPrivateUsage]

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
    """So many cases in the default profile, more in others; one that takes ten seconds is a fault."""
    factor = settings().max_examples / 100
    return settings(max_examples=max(1, round(cases * factor)), deadline=timedelta(seconds=10))


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


def checksum_of_cases() -> str:
    """Of what a small fuzzer tries; always the same in the default profile."""
    found = hashlib.sha256()
    others = st.dictionaries(st.text(max_size=5), st.floats() | st.integers() | st.binary(max_size=5))

    @fuzz(60)
    @given(st.tuples(mutated(b"some content", bytes(100)), others, st.sampled_from("ab") | st.none()))
    def try_one(case: object) -> None:
        found.update(repr(case).encode())

    try_one()
    return found.hexdigest()
