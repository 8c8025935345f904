"""Serves a page on this machine until Ctrl-C."""

import contextlib
import errno
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from ..errors import InputError

HIGHEST_PORT = 65535
HOST, PORT, TRIED = "127.0.0.1", 7860, 100  # ports tried, one after the other, if none is named
PUBLIC = ("0.0.0.0", "::")
# Gradio sends nothing anywhere, and asks nothing of its servers.
PRIVATE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
FONTS = ["system-ui", "sans-serif"]  # those of the machine: others would come from the network


def import_gradio() -> Any:
    """Imports gradio, which then sends no statistics.

    Raises:
        InputError: it isn't installed.
    """
    os.environ.update(PRIVATE)
    try:
        import gradio
    except ImportError as error:
        raise InputError("the page needs gradio: pip install 'convmae_det[app]'") from error
    return gradio


@contextlib.contextmanager
def keep_files_together() -> Iterator[str]:
    """Gives a folder for what is uploaded and made, which is deleted in the end."""
    with tempfile.TemporaryDirectory(prefix="convmae_det-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield folder


def find_port(host: str, port: int | None) -> int:
    """Finds a free port: `port`, or from PORT on the first.

    Raises:
        InputError: there is no such port, it is taken, or this machine has no such address.
    """
    if port is not None and not 1 <= port <= HIGHEST_PORT:
        raise InputError(f"--port is {port}; it must be 1 to {HIGHEST_PORT}, or left out, and a free one is found")
    for candidate in [port] if port is not None else range(PORT, PORT + TRIED):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError as error:
                if not isinstance(error, PermissionError) and error.errno != errno.EADDRINUSE:
                    raise InputError(f"--host {host} is no address of this machine: leave it out") from error
                continue
            return candidate
    if port is not None:
        raise InputError(f"--port {port} is taken, or not yours to use: leave it out, and a free one is found")
    raise InputError(f"the ports {PORT} to {PORT + TRIED - 1} are all taken: name another by --port")


def start(blocks: Any, host: str = HOST, port: int | None = None) -> str:
    """Starts serving a page; `blocks.close()` ends it.

    Returns:
        Its address.

    Raises:
        InputError: as for :func:`find_port`.
    """
    gradio = import_gradio()
    theme = gradio.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"])
    found = find_port(host, port)
    blocks.launch(
        server_name=host, server_port=found, share=False, quiet=True, prevent_thread_lock=True, theme=theme, css=CSS,
        footer_links=[], ssr_mode=False, show_error=True,
    )  # fmt: skip
    return f"http://{f'[{host}]' if ':' in host else host}:{found}"


def serve(blocks: Any, host: str = HOST, port: int | None = None) -> None:
    """Serves a page until Ctrl-C; the arguments are those of :func:`start`."""
    address = start(blocks, host, port)
    print(f"The page is at {address} until Ctrl-C.")
    if host in PUBLIC:
        print("Whoever reaches this machine can use it: there is no password.", file=sys.stderr)
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    blocks.close(verbose=False)
    print("\nThe page is closed.")


CSS = """
.gradio-container {max-width: 1280px !important; margin: auto}
#examples .grid-container {grid-template-columns: repeat(auto-fill, 72px) !important; grid-auto-rows: 72px !important}
#examples .grid-wrap {min-height: 0 !important}
#picture img, #features img {padding-top: 30px}
.chip {display: inline-block; padding: 2px 10px; margin: 2px 6px 2px 0; border-radius: 12px; font-size: 90%}
"""
