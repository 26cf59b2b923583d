"""The transports by the names that options and commands have for them."""

from __future__ import annotations

from noduleserve.client.options import TransportName

from .base import Transport
from .shared_memory import SharedMemoryTransport
from .stream import StreamTransport
from .unary import UnaryTransport


def transport_to(address: str, name: TransportName, streams: int) -> Transport:
    """A way to one server.

    Args:
        address: "host:port" of gRPC.
        name: of the transport.
        streams: how many, where it is "stream".
    """
    if name == "unary":
        return UnaryTransport(address)
    if name == "shared-memory":
        return SharedMemoryTransport(address)
    return StreamTransport(address, streams)
