"""Names of tensors as other programs save them: torch.compile, DataParallel and Lightning put a prefix before each."""

import logging
import re
from collections.abc import Iterable, Mapping
from itertools import islice, takewhile

from torch import Tensor

from swinlet.errors import CheckpointError
from swinlet.options.names import NETWORKS
from swinlet.utils.names import printable

LOGGER = logging.getLogger("swinlet")

_FIRST = "conv_first.weight"  # of a SwinIR, and of many other networks
_WRAPPERS = re.compile(r"(?:module[.]|_orig_mod[.])*")
"""DataParallel's and torch.compile's: taken off whatever network follows."""
_EMA = re.compile(r"(?:^|[._])ema(?:[._]|$)|(?:^|[.])netE[.]", re.IGNORECASE)
_LEVELS = 4
_LISTED = 4  # prefixes or tensors named in a message


def without_prefix(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of one network, by the names that the network itself gives them; a prefix taken off is logged.

    The prefix is what stands before ``conv_first.weight``. Tensors without it, of a loss for instance, are left out.
    Of several networks the moving average (EMA) is taken, where one of them is called so. A file without
    ``conv_first.weight`` loses only what torch.compile and DataParallel put before all names.

    Args:
        state: names to tensors.
        source: option and file, for messages.

    Raises:
        CheckpointError: it holds several networks, and nothing says which is meant.
    """
    found = [name.removesuffix(_FIRST) for name in state if name == _FIRST or name.endswith(f".{_FIRST}")]
    markers = {name: state[name] for name in NETWORKS if name in state}  # they tell the network's class
    names = state.keys() - markers.keys()
    prefix = _chosen(found, source) if found else _wrappers(names)
    if not prefix:
        return dict(state)
    others = [other for other in found if other != prefix]
    inner = tuple(other for other in others if other.startswith(prefix))
    taken = {name for name in names if name.startswith(prefix) and not name.startswith(inner)}
    log_prefix(source, prefix, others, names - taken)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name in taken} | markers


def log_prefix(source: str, prefix: str, others: Iterable[str] = (), left_out: Iterable[str] = ()) -> None:
    """Say which prefix was taken off, and, in a warning, which networks and tensors of the file are left out."""
    others, left_out = list(others), sorted(left_out)
    text = f"the prefix {printable(prefix[:200])} was taken off"
    if others:
        text += f"; this is the moving average (EMA), the file also holds {_some(others)}"
    elif left_out:
        text += f"; left out: {_some(left_out)}"
    LOGGER.log(logging.WARNING if left_out else logging.INFO, "%s: %s", source, text)


def common_prefixes(names: Iterable[str]) -> list[str]:
    """What all names begin with up to a dot, shortest first, four at most: ``a.``, ``a.b.`` of ``a.b.c``, ``a.b.d``."""
    common = _common(names)
    return [common[: dot.end()] for dot in islice(re.finditer("[.]", common), _LEVELS)]


def _chosen(found: list[str], source: str) -> str:
    if "" in found or len(found) == 1:
        return min(found, key=len)
    averages = [prefix for prefix in found if _EMA.search(prefix)]
    if len(averages) != 1:
        raise CheckpointError(
            f"{source}: it holds {len(found)} networks, under {_some(found)}: save the one that is meant in a file of "
            "its own"
        )
    return averages[0]


def _wrappers(names: Iterable[str]) -> str:
    found = _WRAPPERS.match(_common(names))
    return found[0] if found else ""


def _common(names: Iterable[str]) -> str:
    ordered = sorted(names) or [""]
    same = takewhile(lambda pair: pair[0] == pair[1], zip(ordered[0], ordered[-1], strict=False))
    return "".join(character for character, _ in same)


def _some(names: list[str]) -> str:
    rest = len(names) - _LISTED
    shown = ", ".join(printable(name[:100]) for name in names[:_LISTED])
    return f"{shown} and {rest:,} more" if rest > 0 else shown
