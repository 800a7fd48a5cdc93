"""The server of the page."""

import errno
import ipaddress
import logging
import os
import shutil
import socket
import tempfile
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path

from swinlet.errors import MachineError, OptionError, SwinletError
from swinlet.utils.console import LOGGER
from swinlet.utils.files import refusal
from swinlet.utils.signals import cleaning_up
from swinlet.web.guard import Guard
from swinlet.web.request import WebRequest
from swinlet.web.shelf import Shelf

GRACE = 1
"""Seconds for answers that are on their way when the server ends."""


def serve(request: WebRequest) -> None:
    """Show the page until Ctrl-C or SIGTERM; all files of the page are removed then.

    Raises:
        SwinletError: gradio is missing.
        OptionError: the host is no address of this machine.
        MachineError: the port is taken or not allowed.
    """
    with cleaning_up():
        folder = Path(tempfile.mkdtemp(prefix="swinlet-web-"))  # for its owner alone
        try:
            # asyncio raises KeyboardInterrupt after the server has ended, but not each time.
            with suppress(KeyboardInterrupt), _bound(request.host, request.port) as listener:
                _run(request, listener, folder)
            LOGGER.info("swinlet web: ended")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _run(request: WebRequest, listener: socket.socket, folder: Path) -> None:
    # Read when gradio is imported, or later. It would report its use, and keep files where others can read them.
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_RUN_HISTORY="False",
        GRADIO_TEMP_DIR=str(folder),
        GRADIO_EXAMPLES_CACHE=str(folder / "examples"),
        HF_HUB_DISABLE_TELEMETRY="1",
    )
    try:
        import gradio
        import uvicorn
        from fastapi import FastAPI

        from swinlet.web.page import MAX_FILE, Events, appearance, build_page
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("gradio", "uvicorn", "fastapi"):
            raise
        raise SwinletError("swinlet web shows its page with gradio: pip install 'swinlet[web]'") from error

    events = Events(request.methods, request.scale, request.max_pixels, request.clock, Shelf(folder))
    page = build_page(events)
    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        "/",
        allowed_paths=[],
        max_file_size=MAX_FILE,
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        root_path="",
        **appearance(),
    )
    page.has_launched = True  # else gradio leaves out its own check that a file of a request has been uploaded
    host, port = listener.getsockname()[:2]
    is_private = ipaddress.ip_address(host).is_loopback
    if not is_private:
        LOGGER.warning(
            "--host %s: there is NO PASSWORD: whoever reaches this machine can use the page, its processor and memory",
            request.host,
        )
    names = {"localhost", "127.0.0.1", "::1", host, request.host.lower()} if is_private else None
    here = "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
    address = f"http://{f'[{here}]' if ':' in here else here}:{port}/"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            LOGGER.info("swinlet web: %s (Ctrl-C ends it)", address)
            if request.opens_browser:
                threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            request.clock.end()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # open pages are cut off, as they have to be
            await super().shutdown(sockets)

    config = uvicorn.Config(
        Guard(app, folder, names, page._queue.pending_messages_per_session),  # pyright: ignore[reportArgumentType, reportPrivateUsage]
        log_level="error",
        ws="none",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    try:
        Server(config).run(sockets=[listener])
    finally:
        request.clock.wait()  # Python must not end under a thread that computes


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise OptionError(f"--host {host}: there is no such address: use 127.0.0.1, or one of this machine") from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # where Windows lets two processes share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def _refused(host: str, port: int, error: OSError) -> SwinletError:
    if error.errno == errno.EADDRINUSE:
        return MachineError(
            f"--port {port}: another program listens there, perhaps another swinlet web: end it, or name another port "
            "(0: any that is free)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return OptionError(f"--host {host}: this machine has no such address: use 127.0.0.1, or one of its own")
    return MachineError(f"cannot listen on port {port} of {host}: {refusal(error)}")
