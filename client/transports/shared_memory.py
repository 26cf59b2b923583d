"""Voxels in memory shared with a server on this machine, and the rest of a nodule in a call (ModelInfer).

The server reads a region at a time of its own choosing.  Were the region written again before that, the answer would be
another nodule's score, and nobody could tell.  So a region is lent to one request, and comes back only with an answer
that the server cannot have given without having read it: a score, or a refusal by one of the models.  After a deadline,
a cancellation, a lost connection or any other error it is given up.
"""

from __future__ import annotations

import asyncio
import contextlib

import grpc
from tritonclient.grpc import service_pb2 as pb

from noduleserve.client.codes import MODEL_CODES, REQUEST_CODES
from noduleserve.client.messages import refusal_of
from noduleserve.errors import ServerError
from noduleserve.results.outcome import ReleaseInfo

from .channel import first_line
from .regions import Region, RegionPool, is_stale, sweep
from .unary import UnaryTransport

_VOXELS = "VOXELS"
_REGISTER_S = 15.0  # for the server to map a region, or to let go of it
_FAREWELL_S, _PAUSE_S = 1.0, 0.1  # an idle Triton 2.51 drops what was cancelled within half a second
_UNKNOWN = "Unable to find shared memory region"  # Triton's words
_READ = MODEL_CODES.keys() | REQUEST_CODES.keys()  # refusals by models that have got the voxels


class SharedMemoryTransport(UnaryTransport):
    """See Transport.  Where /dev/shm is full, voxels go in the call as ever.

    Servers that were started again are told of the regions anew.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._pool = RegionPool()

    async def connect(self) -> None:
        """See Transport; clears away what killed clients left."""
        sweep()
        await super().connect()

    async def close(self) -> None:
        """See Transport; the server lets go of the regions, and the next client sees to one that it still reads."""
        self._pool.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                while await self._unregister_given_up():
                    await asyncio.sleep(_PAUSE_S)
        self._pool.end()
        await super().close()

    async def describe(self) -> ReleaseInfo:
        """See Transport; proves that the server sees this machine's shared memory.

        Raises:
            ServerError: SHARED_MEMORY_ELSEWHERE, SHARED_MEMORY_FULL besides.
        """
        info = await super().describe()
        try:
            region = self._pool.lend(1)
        except OSError as error:
            raise ServerError(
                "SHARED_MEMORY_FULL",
                f"No shared memory can be had on this machine ({error.strerror or error}).",
                "Make room in /dev/shm (in a container: --shm-size), or take --transport stream.",
            ) from None
        try:
            await self._register(region)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise self.failure(error, _REGISTER_S) from None
            raise ServerError(
                "SHARED_MEMORY_ELSEWHERE",
                f"The server at {self.address} cannot open this machine's shared memory "
                f"({first_line(error.details())}).",
                "Run client and server on one machine, as one user, and in containers with one /dev/shm (--ipc); or "
                "take --transport stream.",
            ) from None
        finally:
            self._pool.take_back(region)
        await self._unregister_stale()
        return info

    async def ask(self, request: pb.ModelInferRequest, deadline: float) -> pb.ModelInferResponse:
        """See Transport."""
        place = _place_of_voxels(request)
        voxels = request.raw_input_contents[place]
        region = self._lent(len(voxels))
        if region is None:
            return await super().ask(request, deadline)
        try:
            region.write(voxels)
            async with asyncio.timeout(deadline + 1):  # gRPC's own comes first, unless the network swallows everything
                response = await self._asked(_in_region(request, place, region, len(voxels)), region, deadline)
        except TimeoutError:
            self._pool.give_up(region)
            raise self.late(deadline) from None
        except grpc.aio.AioRpcError as error:
            if refusal_of(error.details() or "").code in _READ:
                self._pool.take_back(region)
            else:
                self._pool.give_up(region)
            raise self.failure(error, deadline) from None
        except grpc.aio.UsageError:  # the channel is closed
            self._pool.give_up(region)
            raise self.lost("the channel was closed") from None
        except BaseException:  # cancelled: the server may not have heard of it yet
            self._pool.give_up(region)
            raise
        self._pool.take_back(region)
        return response

    def _lent(self, size: int) -> Region | None:
        """A region, or None where there is no room; Triton takes none for an empty box, which a model is to refuse."""
        with contextlib.suppress(OSError):
            return self._pool.lend(size) if size else None
        return None

    async def _asked(self, request: pb.ModelInferRequest, region: Region, deadline: float) -> pb.ModelInferResponse:
        """The answer; a server that does not know the region is told of it, once."""
        if not region.registered:
            await self._unregister_given_up()  # no more regions at the server than requests that it may still read
            await self._told(region)
        try:
            return await self._stub.ModelInfer(request, timeout=deadline)
        except grpc.aio.AioRpcError as error:
            if _UNKNOWN not in (error.details() or ""):
                raise
        region.registered = False
        await self._told(region)
        return await self._stub.ModelInfer(request, timeout=deadline)

    async def _told(self, region: Region) -> None:
        """Tell the server of a region in the middle of a run, where it has shared memory with us before."""
        try:
            await self._register(region)
        except grpc.aio.AioRpcError as error:
            raise self.lost(first_line(error.details()) or error.code().name) from None

    async def _register(self, region: Region) -> None:
        request = pb.SystemSharedMemoryRegisterRequest(name=region.name, key=f"/{region.name}", byte_size=region.size)
        try:
            await self._stub.SystemSharedMemoryRegister(request, timeout=_REGISTER_S)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:  # of this very region, since no name is used twice
                raise
        region.registered = True

    async def _unregister_given_up(self) -> bool:
        """Have the server let go of regions that were given up; whether it still reads some."""
        names, self._pool.given_up = self._pool.given_up, []
        try:
            while names and await self._unregistered(names[-1]):
                names.pop()
        finally:
            self._pool.given_up += names
        return bool(names)

    async def _unregister_stale(self) -> None:
        """Have the server let go of what it holds for clients of this machine that were killed."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            status = await self._stub.SystemSharedMemoryStatus(
                pb.SystemSharedMemoryStatusRequest(), timeout=_REGISTER_S
            )
            for name in status.regions:
                if is_stale(name):
                    await self._unregistered(name)

    async def _unregistered(self, name: str) -> bool:
        """Whether the server lets go of a region; it keeps one that a request in it still reads."""
        try:
            await self._stub.SystemSharedMemoryUnregister(
                pb.SystemSharedMemoryUnregisterRequest(name=name), timeout=_REGISTER_S
            )
        except grpc.aio.AioRpcError as error:
            return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
        return True


def _place_of_voxels(request: pb.ModelInferRequest) -> int:
    return [tensor.name for tensor in request.inputs].index(_VOXELS)


def _in_region(request: pb.ModelInferRequest, place: int, region: Region, size: int) -> pb.ModelInferRequest:
    """The same request with its voxels in a region, `size` bytes from its beginning."""
    message = pb.ModelInferRequest(
        model_name=request.model_name, model_version=request.model_version, id=request.id, outputs=request.outputs
    )
    for name, value in request.parameters.items():
        message.parameters[name].CopyFrom(value)
    for number, tensor in enumerate(request.inputs):
        told = message.inputs.add()
        told.CopyFrom(tensor)
        if number == place:
            told.parameters["shared_memory_region"].string_param = region.name
            told.parameters["shared_memory_byte_size"].int64_param = size
        else:
            message.raw_input_contents.append(request.raw_input_contents[number])
    return message
