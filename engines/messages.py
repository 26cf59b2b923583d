"""What TensorRT says while it works: its log, and the steps of a build."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

_BETWEEN_STEPS = 1.0  # seconds: some phases have thousands of steps


def logger_of(trt: ModuleType, tell: Callable[[str], object]) -> Any:
    """A logger that hands on what is not verbose, and remembers errors for `last_errors()`."""

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            word = str(severity).rpartition(".")[2]
            if word == "VERBOSE":
                return
            if word.endswith("ERROR"):
                self._errors.append(message.strip().rstrip("."))
            tell(f"[{word}] {message}")

        def last_errors(self) -> str:
            return " | ".join(self._errors[-3:]) or "it gave no reason"

    return Logger()


def monitor_of(trt: ModuleType, tell: Callable[[str], object]) -> Any:
    """The phases of a build as lines, and at most once a second the step that it is at: on a GPU it takes minutes."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._told = time.monotonic()

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            tell(phase)

        def step_complete(self, phase: str, step: int) -> bool:
            if time.monotonic() - self._told > _BETWEEN_STEPS:
                self._told = time.monotonic()
                tell(f"{phase}: step {step + 1} of {self._steps.get(phase, '?')}")
            return True  # go on

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Monitor()
