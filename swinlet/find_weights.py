"""From a word of the command line to a weight file."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from swinlet.checkpoint import newest_weights
from swinlet.errors import CheckpointError
from swinlet.hub import PREFIX, is_hub_word, local_weights

LOGGER = logging.getLogger("swinlet")


def find_weights(word: str, key: str, *, download: bool = False, tell: Callable[[str], None] = LOGGER.warning) -> Path:
    """The file that a word names; whether it can be read is seen when it is.

    Args:
        word: a weight file, a run's folder (its newest weights to deploy), or ``hf://user/model[@revision][/file]``.
        key: path of the option that the word was given for, for messages.
        download: as for ``local_weights``.
        tell: is told of newer weights of a run that are damaged.

    Raises:
        CheckpointError: a folder without weights.
        HubError: see ``local_weights``.
    """
    if is_hub_word(word):
        return local_weights(word, download=download)
    path = Path(word)
    if re.match("hf:/", word, re.IGNORECASE) and not path.exists():
        raise CheckpointError(f"{key}: {word} does not exist; models of the hub are written {PREFIX}user/model")
    if not path.is_dir():
        return path
    found = newest_weights(path / "models", lambda text: tell(f"{key}: {text}"))
    if found is None:
        raise CheckpointError(f"{key}: {path} is a folder without weights in {path / 'models'}: name a weight file")
    return found
