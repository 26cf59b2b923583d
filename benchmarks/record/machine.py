"""The machine that a run is on: what makes figures of two runs comparable, and nothing that names its owner.

No host name, no user, no path, no serial number: a record is there to be published.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .versions import code, versions

# What decides how fast matrices are multiplied; SSE and AVX are everywhere.
_FLAGS = re.compile(r"avx2|fma|f16c|avx512\w*|avx_\w+|amx_\w+|\w*bf16|asimd(hp|dp)|i8mm|(sve|sme)2?")
_ENVIRONMENT = re.compile(
    r"(OMP|MKL|OPENBLAS|GOMP|MALLOC)_\w+|KMP_(?!DUPLICATE|INIT)\w+|ORT_(?!DISABLE_TELEMETRY)\w+"
    r"|CUDA_VISIBLE_DEVICES|CUDA_MODULE_LOADING|LD_PRELOAD|PYTHONMALLOC|PYTHONOPTIMIZE"
)
_SERIAL = re.compile(r"(GPU|MIG)-[0-9a-f-]+", re.IGNORECASE)
_CPU = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")
_GPU = {
    "name": "name",
    "driver": "driver_version",
    "memory_mib": "memory.total",
    "power_limit_w": "power.limit",
    "highest_clock_mhz": "clocks.max.sm",
}


def machine() -> dict[str, Any]:
    """What holds for the whole of a run.

    Returns:
        processor (model, architecture, cores, flags, governor), memory_gb (10^9 bytes), limits of the control group,
        kernel, gpus, python, code (noduleserve, its commit, whether it was changed), versions of installed packages,
        environment (variables that steer threads, memory and GPU, where set). None: not to be found out here.
    """
    return {
        "processor": _processor(),
        "memory_gb": _memory_gb(),
        "limits": {"cores": _limit_cores(), "memory_gb": _limit_memory_gb()},
        "kernel": f"{platform.system()} {platform.release()}",
        "gpus": _gpus(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "code": code(),
        "versions": versions(),
        "environment": _environment(),
    }


# ---------------------------------------------------------------- processor and memory


def _processor() -> dict[str, Any]:
    facts = _cpuinfo()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {
        "model": facts.get("model name") or platform.processor() or None,
        "architecture": platform.machine(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "cores": os.cpu_count(),
        "hyperthreads": _read(_CPU / "smt" / "active") == "1",
        "virtual": "hypervisor" in flags,
        "flags": sorted(flag for flag in flags if _FLAGS.fullmatch(flag)),
        "governor": _read(_CPU / "cpu0" / "cpufreq" / "scaling_governor") or None,
        "highest_clock_mhz": _mhz(_read(_CPU / "cpu0" / "cpufreq" / "cpuinfo_max_freq")),
    }


def _cpuinfo() -> dict[str, str]:
    """Of the first core."""
    first, _, _ = _read(Path("/proc/cpuinfo")).partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _mhz(khz: str) -> float | None:
    return int(khz) / 1000 if khz.isdigit() else None


def _memory_gb() -> float | None:
    found = re.search(r"MemTotal:\s+(\d+) kB", _read(Path("/proc/meminfo")))
    return round(int(found[1]) * 1024 / 1e9, 2) if found else None


# ---------------------------------------------------------------- control groups, both versions of them


def _limit_cores() -> float | None:
    """How many cores' worth of time the control group has; None: as many as there are."""
    limits = []
    for folder in _groups("cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        quota = quota or _read(folder / "cpu.cfs_quota_us")
        period = period or _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            limits.append(int(quota) / int(period))
    return round(min(limits), 3) if limits else None


def _limit_memory_gb() -> float | None:
    values = [_read(folder / file) for folder in _groups("memory") for file in ("memory.max", "memory.limit_in_bytes")]
    limits = [int(value) / 1e9 for value in values if value.isdigit() and int(value) < 2**62]  # above: "no limit"
    return round(min(limits), 2) if limits else None


def throttled_s() -> float | None:
    """Seconds that the control group was held back since it began; None where nothing says so."""
    found = []
    for folder in _groups("cpu"):
        for name, unit in (("throttled_usec", 1e6), ("throttled_time", 1e9)):
            if line := re.search(rf"^{name} (\d+)$", _read(folder / "cpu.stat"), re.MULTILINE):
                found.append(int(line[1]) / unit)
    return max(found, default=None)


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the group of this process and of those above it, as far as they are to be seen from here."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, names, path = line.split(":", 2)
        if not names or controller in names.split(","):
            top = _CGROUPS / names if names else _CGROUPS
            inner = top / path.strip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder == top or top in folder.parents)


# ---------------------------------------------------------------- GPU and environment


def _gpus() -> list[dict[str, str]]:
    """What nvidia-smi says; [] where there is none."""
    line = ["nvidia-smi", f"--query-gpu={','.join(_GPU.values())}", "--format=csv,noheader,nounits"]
    try:
        return gpus_of(subprocess.run(line, capture_output=True, text=True, timeout=20, check=True).stdout)
    except (OSError, subprocess.SubprocessError):
        return []


def gpus_of(said: str) -> list[dict[str, str]]:
    """The GPUs that nvidia-smi listed, one a line."""
    return [
        dict(zip(_GPU, (value.strip() for value in gpu.split(",")), strict=True))
        for gpu in said.splitlines()
        if gpu.count(",") == len(_GPU) - 1
    ]


def _environment() -> dict[str, str]:
    """Variables that change how fast things go; of one that holds paths, their last parts."""
    return {
        name: _SERIAL.sub(r"\1", ":".join(Path(part).name for part in value.split(":")))
        for name, value in sorted(os.environ.items())
        if _ENVIRONMENT.fullmatch(name)
    }


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
