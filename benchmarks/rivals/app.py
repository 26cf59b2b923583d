"""What both HTTP servers do apart from serving: their arguments, the ways to views, and ending when they should."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .wire import Body

MOST_BATCH = 8
Views = Callable[[Body], NDArray[np.float32]]


def arguments() -> argparse.Namespace:
    """Of a server's command line: graph, port, views."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--views", choices=sorted(WAYS), required=True)
    return parser.parse_args()


def by_scipy(body: Body) -> NDArray[np.float32]:
    """Views [9, 50, 50] as one writes them with scipy."""
    from .scipy_method import views_of_box

    return views_of_box(body.voxels, body.start, body.shape, body.affine, body.center)


def by_noduleserve(body: Body) -> NDArray[np.float32]:
    """Views [9, 50, 50] by this project's own preprocessing."""
    from noduleserve.preprocessing import views_of_request

    return views_of_request(body.voxels, body.start, body.shape, body.affine, body.center)


WAYS: dict[str, Views] = {"scipy": by_scipy, "noduleserve": by_noduleserve}


def end_with_parent() -> None:
    """End this process and all that it starts, its process group, as soon as whoever started it closes its input.

    The kernel closes it when the parent dies, however it dies.
    """

    def wait() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock a fork would find held for ever
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
