"""Models of the Hugging Face hub: ``hf://user/model[@revision][/file]``, and uploads.

huggingface_hub does the work, in its cache and with its login. It is imported where it is needed, as it takes a while.
"""

import json
import logging
import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import swinlet
from swinlet.errors import HubError, UnreachableError
from swinlet.utils.files import refusal, sha256_of
from swinlet.utils.names import printable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOGGER = logging.getLogger("swinlet")

PREFIX = "hf://"
WEIGHTS_FILE = "model.safetensors"
"""The weights of a model that has other files beside it."""

_FORM = f"write {PREFIX}user/model, {PREFIX}user/model@revision or {PREFIX}user/model/file.safetensors"
_NAME = r"[a-zA-Z0-9](?:[\w.-]*\w)?"
_WORD = re.compile(rf"{PREFIX}(?P<model>{_NAME}/{_NAME})(?:@(?P<revision>refs/pr/\d+|[^/@]+))?(?:/(?P<file>.+))?", re.A)
_PATIENCE = 30  # seconds
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"

# Whose exceptions are explained; others are faults of this program. The library speaks HTTP through requests (0.x),
# httpx (1.x) or httpx2 (2.x), and lets all that these raise through.
_LIBRARIES = ("huggingface_hub", "hf_xet", "requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2")


@dataclass(frozen=True)
class _Wanted:
    """What a word names; ``file`` None: whichever file the weights are in."""

    word: str
    model: str
    revision: str
    file: str | None


def is_hub_word(word: str) -> bool:
    """Whether a word of the command line names a model of the hub, rather than a path."""
    return word.startswith(PREFIX)


def local_weights(word: str, *, download: bool = False) -> Path:
    """The file of a model's weights in huggingface_hub's cache.

    Without a file's name that is ``model.safetensors``, or else the only .safetensors there is.

    Args:
        word: ``hf://user/model[@revision][/file]``; the revision is a branch, a tag or a commit, ``main`` by default.
        download: ask the hub for the newest, and fetch it where it is not in the cache. Otherwise nothing is sent.

    Raises:
        UnreachableError: the hub cannot be reached, and the cache does not have it.
        HubError: a bad word, no such model, no leave to read it, several files, a damaged one, a full disk.
    """
    wanted = _parsed(word)
    if not download:
        return _cached(wanted)
    try:
        return _fetched(wanted)
    except UnreachableError as error:
        if _newest_cached(wanted) is None:
            raise
        LOGGER.warning("%s; until then what is in the cache is used", error)
        return _cached(wanted)


def upload(model: str, files: Mapping[str, bytes], *, private: bool, message: str) -> str:
    """Put files into a model on the hub, in one commit; the model is made where there is none.

    Args:
        model: ``user/model``.
        files: name to content.
        private: only its owners may see it.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        UnreachableError: the hub cannot be reached.
        HubError: nobody is logged in, no leave to write, ``private`` is asked for but the model is public already.
    """
    check_model(model)
    with _explained(model):
        from huggingface_hub import CommitOperationAdd, get_token

        token = get_token()
        if token is None:
            raise HubError(f"{model}: nobody is logged in: {_LOGIN}")
        if not token.isascii():
            raise HubError(f"{model}: the token has characters that no token has: {_LOGIN}")
        api = _api(model)
        existed = api.repo_exists(model)
        url = api.create_repo(model, private=private or None, exist_ok=True)
        # An existing model stays as it was, whatever was asked for.
        if private and not api.model_info(model).private:
            raise HubError(f"{model}: exists, and is public: make it private on {url}/settings, or leave --private out")
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=files[name]) for name in files]
    try:
        with _explained(model):
            return api.create_commit(model, operations, commit_message=message).commit_url
    except HubError as error:
        if existed:
            raise
        raise type(error)(f"{error}; {url} has been made for it and is still empty") from error.__cause__


def check_model(model: str) -> None:
    """Refuse what is not the name of a model of the hub.

    Raises:
        HubError: it is not.
    """
    if not re.fullmatch(f"{_NAME}/{_NAME}", model, re.A) or "--" in model or ".." in model or len(model) > 96:
        raise HubError(f"{printable(model)[:200]}: is not the name of a model on the hub: write user/model")


def _parsed(word: str) -> _Wanted:
    shown = printable(word)[:300]
    match = _WORD.fullmatch(word)
    if match is None or match["model"].partition("/")[0] in ("datasets", "spaces", "models"):
        raise HubError(f"{shown}: names no model of the hub: {_FORM}")
    check_model(match["model"])
    revision, file = unquote(match["revision"] or "main"), match["file"]
    # Both become paths inside the cache.
    if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", revision) or ".." in revision:
        raise HubError(f"{shown}: {printable(revision)} is not the name of a branch, a tag or a commit")
    if file is not None and not _is_weight_file(file):
        raise HubError(f"{shown}: {printable(file)} names no .safetensors or .pth file of a model")
    return _Wanted(shown, match["model"], revision, file)


def _is_weight_file(name: str) -> bool:
    """Whether a name in a model, by whomever it was chosen, is that of weights and leads nowhere else."""
    is_plain = name.isprintable() and not re.search(r"[\\:]", name)
    return is_plain and not {"", ".", ".."} & set(name.split("/")) and name.endswith((".safetensors", ".pth"))


def _cached(wanted: _Wanted) -> Path:
    path = _newest_cached(wanted)
    if path is None:
        raise HubError(
            f"{wanted.word}: is not in the cache ({_cache()}), and nothing is downloaded without your leave: "
            "pass --download (download=True in Python)"
        )
    if not _is_whole(path):
        raise HubError(f"{wanted.word}: {path} is damaged: fetch it again with --download (download=True in Python)")
    return path


def _newest_cached(wanted: _Wanted) -> Path | None:
    """The file in the snapshot that was the revision's when it was last asked for; None: not there."""
    folder = _cache() / f"models--{wanted.model.replace('/', '--')}"
    reference = folder / "refs" / wanted.revision
    commit = reference.read_text(encoding="utf-8", errors="replace").strip() if reference.is_file() else wanted.revision
    snapshot = folder / "snapshots" / commit
    if not re.fullmatch("[0-9a-f]{40}", commit) or not snapshot.is_dir():
        return None
    files = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
    names = sorted(filter(_is_weight_file, files))
    is_there = names if wanted.file is None else wanted.file in names
    return snapshot / _chosen(wanted, names) if is_there else None


def _fetched(wanted: _Wanted) -> Path:
    with _explained(wanted.word):
        api = _api(wanted.word)
        info = api.model_info(wanted.model, revision=wanted.revision, timeout=_PATIENCE)
        name = _chosen(wanted, [sibling.rfilename for sibling in info.siblings or ()])
        for again in (False, True):  # a damaged file that was in the cache before is replaced
            path = api.hf_hub_download(
                wanted.model, name, revision=wanted.revision, cache_dir=_cache(), force_download=again
            )
            if _is_whole(Path(path)):
                return Path(path)
    raise HubError(f"{wanted.word}: {name} arrived damaged: what came is not what the hub announced; try again later")


def _chosen(wanted: _Wanted, names: Sequence[str]) -> str:
    """The name of the file with the weights."""
    found = [name for name in names if _is_weight_file(name)]
    listed = ", ".join(found[:10]) or "none"
    if wanted.file is not None:
        if wanted.file not in found:
            raise HubError(f"{wanted.word}: the model has no such file (weights there: {listed})")
        return wanted.file
    safe = [name for name in found if name.endswith(".safetensors")]
    if WEIGHTS_FILE in safe:
        return WEIGHTS_FILE
    if len(safe) != 1:
        what = "holds several .safetensors files" if safe else "holds no .safetensors file"
        raise HubError(f"{wanted.word}: {what}: name the one that is meant, {_FORM} (weights there: {listed})")
    return safe[0]


def _is_whole(path: Path) -> bool:
    """Whether a file of the cache has the checksum that it is kept under; True where there is none.

    Weights lie in files that are called by their SHA-256; snapshots hold links to them, on systems with links. The
    library itself compares the size alone.
    """
    kept_as = Path(os.readlink(path)).name if path.is_symlink() else ""
    return not re.fullmatch("[0-9a-f]{64}", kept_as) or sha256_of(path) == kept_as


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _api(what: str) -> "HfApi":
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise UnreachableError(f"{what}: HF_HUB_OFFLINE is set, which forbids to ask the hub: unset it")
    # The library itself reads HF_ENDPOINT when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return HfApi(endpoint or None, library_name="swinlet", library_version=swinlet.__version__)


@contextmanager
def _explained(what: str) -> Generator[None, None, None]:
    """Raise ``HubError`` for what the library raises."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        is_known = type(error).__module__.partition(".")[0] in _LIBRARIES
        if not is_known and not isinstance(error, OSError | RuntimeError | ValueError | KeyError):
            raise
        # The command line takes an OSError behind it for the machine's fault; those of the library are OSErrors, too.
        raise _as_hub_error(what, error) from (error if _is_machines(error) else None)


def _is_machines(error: BaseException) -> bool:
    """Whether this machine's disk or rights are at fault, rather than the network."""
    is_builtin = type(error).__module__ == "builtins" and not isinstance(error, ConnectionError | TimeoutError)
    return is_builtin and isinstance(error, OSError) and error.errno is not None


def _as_hub_error(what: str, error: BaseException) -> HubError:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        return _as_hub_error(what, error.__cause__)
    if isinstance(error, errors.GatedRepoError):
        return HubError(f"{what}: its owners want to be asked: do so on the model's page, then {_LOGIN}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(f"{what}: the hub has no such model, or does not show it to you: if it is private, {_LOGIN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"{what}: the model has no such branch, tag or commit")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(what, error.response.status_code, error.server_message)
    if isinstance(error, OSError) and _is_machines(error):
        return HubError(f"{what}: {error.filename or _cache()}: {refusal(error)}")
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
        return HubError(f"{what}: {_short(error)}")
    return UnreachableError(f"{what}: the hub cannot be reached, or broke off ({_short(error)}): try again later")


def _refused(what: str, status: int, said: str | None) -> HubError:
    said = printable(" ".join((said or "").split()))[:200]
    reason = f"status {status}{': ' + said if said else ''}"
    if status in (401, 403):
        return HubError(f"{what}: your token does not permit this ({reason}): {_LOGIN} to one that does")
    if status in (408, 429) or status >= 500:
        return UnreachableError(f"{what}: the hub cannot serve this now ({reason}): try again later")
    return HubError(f"{what}: the hub refuses this ({reason})")


def _short(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))[:200] or type(error).__name__
