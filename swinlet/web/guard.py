"""What a browser may ask the server for: an ASGI application around another."""

import json
import os
from collections.abc import Awaitable, Callable, Container, Iterable, MutableMapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FILES = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
JOIN = "/gradio_api/queue/join"
ANSWERS = "/gradio_api/queue/data"

_GET = frozenset({"/", ANSWERS, "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"}) | {
    f"/gradio_api/{name}" for name in ("startup-events", "upload_progress", "theme.css", "app_id", "info")
}
_GET_BELOW = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", FILES)
_POST = frozenset({UPLOAD, JOIN, "/gradio_api/cancel", "/gradio_api/reset"})

MAX_REQUEST = 100_000
"""Bytes of a request that uploads nothing."""

# The page may load nothing from elsewhere, whatever its code says. gradio's own code is written into the page, and
# compiles templates.
_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' blob:; worker-src 'self' blob:; "
        b"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Guard:
    """Passes on what the page needs, and answers all else itself, 403 or 404.

    Refused are other routes of gradio (it fetches addresses for strangers, for instance), files outside a folder,
    requests of other sites' pages, names that other sites have given this machine, and answers to events of nobody.

    Args:
        app: the application.
        folder: the only one whose files may be named.
        hosts: names by which the server may be called; None: any.
        sessions: open pages that wait for answers to events.
    """

    def __init__(self, app: App, folder: Path, hosts: Iterable[str] | None, sessions: Container[str]) -> None:
        self._app = app
        self._folder = os.path.realpath(folder)
        self._hosts = None if hosts is None else frozenset(hosts)
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets: uvicorn answers 403
        status = self._refusal(scope)
        if status is None and scope["path"] == JOIN:
            content = await _read(receive)
            if content is None or not self._names_own_files(content):
                status = 403
            else:
                receive = _again(content, receive)
        if status is not None:
            await _answer(status, send)
            return
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> int | None:
        """The status of a request that is not passed on."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts is not None and _name(f"//{host}") not in self._hosts:
            return 403
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc != host:
            return 403
        method, path = scope["method"], scope["path"]
        if method in ("GET", "HEAD"):
            if path.startswith(FILES):
                return None if self._is_own(path.removeprefix(FILES)) else 403
            if path == ANSWERS:  # gradio answers strangers, too, and then fails with a traceback
                asked = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
                return None if asked[0] in self._sessions else 404
            return None if path in _GET or path.startswith(_GET_BELOW) else 404
        return None if method == "POST" and path in _POST else 404

    def _is_own(self, path: str) -> bool:
        return os.path.isabs(path) and "\0" not in path and os.path.realpath(path).startswith(self._folder + os.sep)

    def _names_own_files(self, content: bytes) -> bool:
        """Whether all files that an event names have been uploaded or made here."""
        try:
            return all(self._is_own(path) for path in _paths(json.loads(content)))
        except (ValueError, RecursionError):
            return False


def _paths(value: Any) -> Iterable[str]:
    """Paths of gradio's files in a request."""
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        if "path" in entries:
            yield str(entries["path"])
        for entry in entries.values():
            yield from _paths(entry)
    elif isinstance(value, list):
        for entry in cast("list[Any]", value):
            yield from _paths(entry)


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; None: it is too long, or the browser has gone."""
    content = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        content += message.get("body", b"")
        if len(content) > MAX_REQUEST:
            return None
        if not message.get("more_body", False):
            return content


def _again(content: bytes, receive: Receive) -> Receive:
    """``receive`` for a request whose body has been read."""
    waiting = [{"type": "http.request", "body": content, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _answer(status: int, send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"not here\n"})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await send(message)

    return sending
