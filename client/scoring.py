"""The way of a worklist: open each series once, cut the boxes, keep a bounded number in flight, miss no nodule."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from noduleserve.ct.doubt import InputWarning, check_surroundings
from noduleserve.ct.source import Source, open_source
from noduleserve.ct.volume import Volume
from noduleserve.errors import NoduleserveError
from noduleserve.preprocessing import BadRequest, Box, VolumeGeometry, required_box, views_of_request
from noduleserve.protocol import arrays_of
from noduleserve.worklist.table import Nodule

from .messages import score_of, score_request
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from .stream import ScoreStream

IN_FLIGHT = 8
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class _Cut:
    """A nodule with everything that its request needs, or with the reason why it cannot be asked for."""

    nodule: Nodule
    seconds: dict[str, float]
    geometry: VolumeGeometry | None = None
    box: Box | None = None
    voxels: NDArray[np.int16] | None = None
    warnings: tuple[InputWarning, ...] = ()
    error: NoduleserveError | BadRequest | None = None


class Scoring:
    """Scores a worklist on one server.

    `outcomes` yields exactly one Outcome a nodule, in the order in which the answers come.  At most `in_flight` boxes
    are in memory at any time, read or sent.  What goes wrong with a nodule, or with its series, is that nodule's
    outcome and never the end of the run.
    """

    def __init__(
        self, stream: ScoreStream, info: ReleaseInfo, *, in_flight: int = IN_FLIGHT, views: bool = False
    ) -> None:
        """Prepare a run.

        Args:
            stream: connected.
            info: what the server says of its release; its id is learned from the first answer.
            in_flight: nodules that are read or sent and not answered, at most.
            views: also compute the nine views of each scored nodule here, for a report.
        """
        self.info = info
        self._stream, self._views = stream, views
        self._slots = asyncio.Semaphore(in_flight)

    async def outcomes(self, nodules: Sequence[Nodule]) -> AsyncIterator[Outcome]:
        """Score every nodule; see the class."""
        done: asyncio.Queue[Outcome] = asyncio.Queue()
        tasks: set[asyncio.Task[None]] = set()
        feeder = asyncio.create_task(self._feed(nodules, done, tasks))
        try:
            for _ in nodules:
                yield await _next(done, feeder)
        finally:
            for task in (feeder, *tasks):
                task.cancel()
            await asyncio.gather(feeder, *tasks, return_exceptions=True)

    async def _feed(
        self, nodules: Sequence[Nodule], done: asyncio.Queue[Outcome], tasks: set[asyncio.Task[None]]
    ) -> None:
        cuts = _cuts(nodules)
        for _ in nodules:
            await self._slots.acquire()
            cut = await asyncio.to_thread(next, cuts)
            task = asyncio.create_task(self._answer(cut, done))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.to_thread(cuts.close)  # behind the last nodule of the last place, which is still open

    async def _answer(self, cut: _Cut, done: asyncio.Queue[Outcome]) -> None:
        try:
            outcome = await self._outcome(cut)
        except Exception as error:  # whatever it was, this nodule gets a row and the next one its turn
            outcome = _failed(cut, "CLIENT_ERROR", f"{type(error).__name__} in the client.")
        finally:
            self._slots.release()
        done.put_nowait(outcome)

    async def _outcome(self, cut: _Cut) -> Outcome:
        if cut.voxels is None or cut.box is None or cut.geometry is None or cut.nodule.center is None:
            assert cut.error is not None
            return _failed(cut, cut.error.code, _sentence(cut.error))
        began = time.perf_counter()
        request = score_request(str(cut.nodule.number), cut.voxels, cut.box, cut.geometry, cut.nodule.center)
        try:
            score = self._read(await self._stream.ask(request))
        except NoduleserveError as error:
            return _failed(cut, error.code, error.sentence)
        cut.seconds["server"] = time.perf_counter() - began
        views = await asyncio.to_thread(_views_of, cut) if self._views else None
        return Outcome(cut.nodule, score, seconds=cut.seconds, views=views, warnings=cut.warnings)

    def _read(self, response: pb.ModelInferResponse) -> Score:
        if not self.info.release:  # the first answer tells; the rest must agree
            release = arrays_of(response).get("RELEASE")
            if release is not None and release.size == 1:
                self.info = replace(self.info, release=str(release.item()))
        return score_of(response, self.info)


async def _next(done: asyncio.Queue[Outcome], feeder: asyncio.Task[None]) -> Outcome:
    """The next outcome; if the feeder broke, its error instead of waiting for ever."""
    getter = asyncio.ensure_future(done.get())
    while not getter.done():
        waiting = {getter} if feeder.done() else {getter, feeder}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if feeder.done() and (error := feeder.exception()):
            getter.cancel()
            raise error
    return getter.result()


def _cuts(nodules: Iterable[Nodule]) -> Generator[_Cut, None, None]:
    """Read nodule after nodule, all those of one series together, in the order in which places and series first appear.

    Only one place is open at a time: an archive lies unpacked on disk until it is closed.
    """
    by_path: dict[Path, dict[str, list[Nodule]]] = {}
    for nodule in nodules:
        by_path.setdefault(nodule.image_path, {}).setdefault(nodule.series_uid, []).append(nodule)
    for path, by_series in by_path.items():
        opened = _Opened(path)
        try:
            for series_uid, group in by_series.items():
                for nodule in group:
                    yield _read_nodule(nodule, series_uid, opened)
        finally:
            opened.close()


def _read_nodule(nodule: Nodule, series_uid: str, opened: _Opened) -> _Cut:
    if nodule.problem or nodule.center is None:
        problem = NoduleserveError("WORKLIST_ROW", nodule.problem, "Put this row of the worklist right.")
        return _Cut(nodule, {}, error=problem)
    began = time.perf_counter()
    first = not opened.tried(series_uid)
    volume = opened.volume(series_uid)
    seconds = {"open": time.perf_counter() - began} if first else {}
    if isinstance(volume, NoduleserveError):
        return _Cut(nodule, seconds, error=volume)
    return _cut(nodule, volume, seconds)


class _Opened:
    """A place that series are read from, and the one series of it that is in use: each is opened once, or refused once.

    An error is kept like what it kept from being opened, since the nodules that follow would only meet it again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source: Source | NoduleserveError | None = None
        self._series_uid: str | None = None
        self._volume: Volume | NoduleserveError | None = None

    def tried(self, series_uid: str) -> bool:
        """Whether `volume` has nothing left to open."""
        return self._series_uid == series_uid

    def volume(self, series_uid: str) -> Volume | NoduleserveError:
        """A series, or why it cannot be read."""
        if self._source is None:
            self._source = _attempt(lambda: open_source(self._path))
        if self._volume is None or not self.tried(series_uid):
            self._volume, self._series_uid = self._open(self._source, series_uid), series_uid
        return self._volume

    def close(self) -> None:
        """Let go of what is open; what then cannot be cleared away must not cost the run its results."""
        self._volume = None
        if isinstance(self._source, Source):
            with contextlib.suppress(OSError):
                self._source.close()

    @staticmethod
    def _open(source: Source | NoduleserveError, series_uid: str) -> Volume | NoduleserveError:
        return source if isinstance(source, NoduleserveError) else _attempt(lambda: source.volume(series_uid))


def _attempt(open_it: Callable[[], _T]) -> _T | NoduleserveError:
    try:
        return open_it()
    except NoduleserveError as error:
        return error
    except Exception as error:  # a reader's surprise at a strange file is that series' error, not the run's; its text
        # may quote the file, and with it the patient, so that only its kind is told
        return NoduleserveError("SERIES_UNREADABLE", f"{type(error).__name__} while opening the series.")


def _cut(nodule: Nodule, volume: Volume, seconds: dict[str, float]) -> _Cut:
    began = time.perf_counter()
    try:
        box = required_box(volume.geometry, nodule.center or ())
        voxels = volume.read_box(box)
        warnings = volume.warnings + check_surroundings(voxels, box, volume.geometry, nodule.center or ())
    except (NoduleserveError, BadRequest) as error:
        return _Cut(nodule, seconds, error=error)
    except Exception as error:
        surprise = NoduleserveError("SERIES_UNREADABLE", f"{type(error).__name__} while reading the voxels.")
        return _Cut(nodule, seconds, error=surprise)
    seconds["box"] = time.perf_counter() - began
    return _Cut(nodule, seconds, volume.geometry, box, voxels, warnings)


def _views_of(cut: _Cut) -> NDArray[np.float32]:
    assert cut.voxels is not None and cut.box is not None and cut.geometry is not None and cut.nodule.center is not None
    shape, affine = cut.geometry.shape, cut.geometry.affine
    return views_of_request(cut.voxels, cut.box.start, shape, affine, cut.nodule.center)


def _sentence(error: NoduleserveError | BadRequest) -> str:
    return error.sentence if isinstance(error, NoduleserveError) else f"{error.what} Mend: {error.mend}"


def _failed(cut: _Cut, code: str, sentence: str) -> Outcome:
    return Outcome(cut.nodule, error_code=code, error=sentence, seconds=cut.seconds, warnings=cut.warnings)
