"""Serving the page until somebody stops it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from sightread.errors import ConfigError, MissingExtra
from sightread.web.exhibit import Exhibit

_MOST = 256  # connections; who comes when there are so many is told to come again
_PATIENCE = 2  # seconds that answers under way have to end in


def import_uvicorn() -> Any:
    """The module `uvicorn`; raises `MissingExtra` if it, or Starlette, is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise MissingExtra("the page needs Starlette and uvicorn; pip install 'sightread[web]'") from error
    return uvicorn


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, at a free port if it is 0; raises `ConfigError` if that cannot be."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen at {host}, port {port} ({error}); give another --host or --port") from error


def is_local(host: str) -> bool:
    """Whether nobody but this machine reaches a server there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hosts_of(host: str) -> Sequence[str]:
    """The names under which a server there may be asked for: its own and the machine's, or any if it listens to all."""
    from sightread.web.app import LOCAL

    with suppress(ValueError):
        if ip_address(host).is_unspecified:
            return ["*"]
    return [*LOCAL, f"[{host}]" if ":" in host else host]


def serve(exhibit: Exhibit, listening: socket.socket, hosts: Sequence[str]) -> None:
    """Serve until Ctrl-C or SIGTERM; the first to ask waits no longer than others."""
    from sightread.web.answers import EXAMPLE, vokens
    from sightread.web.app import build_app
    from sightread.web.questions import VokensAsked

    uvicorn = import_uvicorn()
    vokens(exhibit, VokensAsked(text=EXAMPLE, vokenizers=list(exhibit.vokenizers)))
    config = uvicorn.Config(
        build_app(exhibit, hosts), log_level="warning", access_log=False, server_header=False, ws="none",
        lifespan="off", limit_concurrency=_MOST, timeout_graceful_shutdown=_PATIENCE,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
