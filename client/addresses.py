"""The addresses that a person gives, taken apart, and names resolved to all the machines behind them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from noduleserve.errors import ServerError

DNS = "dns:///"


def split_addresses(servers: Sequence[str]) -> list[str]:
    """Every address once, in the order given; one string may hold several, separated by commas.

    Raises:
        ServerError: SERVER_UNREACHABLE, where none is named.
    """
    addresses = [address.strip() for server in servers for address in server.split(",") if address.strip()]
    if not addresses:
        raise ServerError("SERVER_UNREACHABLE", "No server is named.", "Give host:port, or several with commas.")
    return list(dict.fromkeys(addresses))


async def resolve(target: str) -> list[str]:
    """host:port of every machine behind dns:///name:port; [] where the name is not known just now."""
    host, _, port = target.removeprefix(DNS).rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    hosts = [(str(at[0]), family) for family, *_, at in found]
    names = [f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}" for host, family in hosts]
    return list(dict.fromkeys(names))
