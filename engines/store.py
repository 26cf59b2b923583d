"""Plans beside releases: a release is the same everywhere and for ever, a plan belongs to a GPU and a TensorRT.

RELEASE/engine/encoder.onnx                    what plans are built from, part of the release
RELEASE.engines/<key>/model.plan               what Triton serves
RELEASE.engines/<key>/ENGINE.json              what it is, what it fits, its hash
RELEASE.engines/<key>/build.log, layers.json   how it was built, what is in it
RELEASE.engines/timing-....cache               kernel timings, which make the next build quicker
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noduleserve.errors import EngineError
from noduleserve.release import Release

from .inspection import text_of
from .machine import Machine, import_tensorrt, version_of
from .plan import PLAIN, Options, build_plan, profiles_for, write_whole

GRAPH = "engine/encoder.onnx"
PLAN, RECORD = "model.plan", "ENGINE.json"
NO_GPU = "nogpu"
_ENVIRONMENT = "NODULESERVE_ENGINES"
_AMPERE = 8.0  # compute capability from which on a hardware-compatible plan runs


@dataclass(frozen=True)
class Engine:
    """A plan in a store.

    Attributes:
        folder: where it lies.
        record: ENGINE.json.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def plan(self) -> Path:
        """The plan's file."""
        return self.folder / PLAN

    def fits(self, machine: Machine) -> bool:
        """Whether the plan runs on a machine; a TensorRT of unknown version is trusted to refuse what it cannot run."""
        built, here = self.record["compute_capability"], machine.compute_capability
        if built is None or here is None:
            return False
        gpu = built == here or ("hardware_compatible" in self.record["options"] and float(here) >= _AMPERE)
        ours, theirs = self.record["tensorrt"], machine.tensorrt
        if theirs is None or theirs == ours:
            return gpu
        later = theirs.split(".")[0] == ours.split(".")[0] and _numbers(theirs) > _numbers(ours)
        return gpu and later and "version_compatible" in self.record["options"]

    def __str__(self) -> str:
        return str(Machine(self.record["compute_capability"], self.record["tensorrt"]))


def store_of(release: Release, given: Path | None = None) -> Path:
    """Where a release's plans lie: as given, else as NODULESERVE_ENGINES says, else beside the release."""
    named = given or os.environ.get(_ENVIRONMENT)
    folder = release.folder.resolve()
    return Path(named) if named else folder.with_name(f"{folder.name}.engines")


def build_engine(
    release: Release,
    store: Path,
    *,
    options: Options = PLAIN,
    without_gpu: bool = False,
    force: bool = False,
    log: Path | None = None,
    workspace: int | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Engine:
    """Build the plan of a release for this machine and put it into the store; one that is there already is kept.

    Args:
        release: of target `tensorrt`.
        store: see `store_of`.
        options: compatibilities.
        without_gpu: build where there is no GPU, to see what TensorRT makes of the graph; such a plan is never served.
        force: build although the plan is there.
        log: file for TensorRT's messages; by default build.log beside the plan.
        workspace: bytes that kernels may use beside weights and activations.
        tell: is called with TensorRT's messages and the steps of the build.

    Raises:
        EngineError: TARGET_HAS_NO_ENGINE, TENSORRT_NOT_FOUND, NO_GPU, ONNX_NOT_PARSED, ENGINE_NOT_BUILT.
    """
    graph = graph_sha256(release)
    version, gpu = version_of(import_tensorrt()), Machine.this().compute_capability
    if without_gpu:
        gpu = None
    elif gpu is None:
        raise _no_gpu("Run this on the machine whose GPU serves the plan; --without-gpu builds one to look at only.")
    key = engine_key(gpu, version, graph, options)
    if not force and (store / key / RECORD).is_file():
        return open_engine(store / key)
    store.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=store))
    try:
        work.chmod(0o755)
        profiles = profiles_for(_max_batch(release))
        cache = store / f"timing-{_gpu_word(gpu)}-trt{version}.cache" if gpu else None
        plan = build_plan(
            release.folder / GRAPH,
            profiles=profiles,
            log=log or work / "build.log",
            options=options,
            timing_cache=cache,
            workspace=workspace,
            tell=tell,
        )
        write_whole(work / PLAN, plan.content)
        (work / "layers.json").write_text(json.dumps({"network": plan.network, "engine": plan.engine}, indent=1) + "\n")
        (work / "layers.txt").write_text(text_of(plan.network, plan.engine) + "\n")
        record = {
            "key": key,
            "release_id": release.id,
            "graph_sha256": graph,
            "compute_capability": gpu,
            "tensorrt": version,
            "options": options.names(),
            "profiles": [asdict(profile) for profile in profiles],
            "plan_sha256": hashlib.sha256(plan.content).hexdigest(),
            "plan_bytes": len(plan.content),
            "seconds": round(plan.seconds, 1),
            "built": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        (work / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        if (store / key).exists():
            shutil.rmtree(store / key)
        work.rename(store / key)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return Engine(store / key, record)


def find_engine(release: Release, store: Path, machine: Machine | None = None) -> Engine:
    """The plan of a release that fits this machine, its hash checked.

    Args:
        release: of target `tensorrt`.
        store: see `store_of`.
        machine: to serve on; by default this one.

    Raises:
        EngineError: TARGET_HAS_NO_ENGINE, NO_GPU, ENGINE_MISSING, ENGINE_DOES_NOT_FIT, ENGINE_DAMAGED.
    """
    machine, graph = machine or Machine.this(), graph_sha256(release)
    if machine.compute_capability is None:
        raise _no_gpu("Serve it where the GPU is, or export the checkpoint for another target.")
    engines = [open_engine(record.parent) for record in sorted(store.glob(f"[!.]*/{RECORD}"))]
    engines = [e for e in engines if e.record["graph_sha256"] == graph and e.record["compute_capability"] is not None]
    mend = f"On this machine run `noduleserve build-engine {release.folder}`."
    if not engines:
        raise EngineError("ENGINE_MISSING", f"There is no plan of release {release.id} in {store}.", mend)
    fitting = [engine for engine in engines if engine.fits(machine)]
    if not fitting:
        built = "; ".join(str(engine) for engine in engines)
        raise EngineError("ENGINE_DOES_NOT_FIT", f"Built for {built}; this machine has {machine}.", mend)
    # What is compatible with more is slower; of equals the newest.
    best = min(fitting, key=lambda e: (len(e.record["options"]), -_seconds(e.record["built"])))
    _require_whole(best)
    return best


def open_engine(folder: Path) -> Engine:
    """Read a plan's record.

    Raises:
        EngineError: ENGINE_DAMAGED.
    """
    try:
        record = json.loads((folder / RECORD).read_text())
        missing = {"graph_sha256", "compute_capability", "tensorrt", "options", "plan_sha256", "built"} - set(record)
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(folder, f"{RECORD} cannot be read ({error})") from None
    if missing:
        raise _damaged(folder, f"{RECORD} lacks {', '.join(sorted(missing))}")
    return Engine(folder, record)


def engine_key(gpu: str | None, tensorrt: str, graph: str, options: Options) -> str:
    """The name of a plan's folder: all that makes another plan of it."""
    return "-".join([_gpu_word(gpu), f"trt{tensorrt}", graph[:12], *options.names()])


def graph_sha256(release: Release) -> str:
    """Hash of the graph that a release's plans are built from, its external data included.

    Raises:
        EngineError: TARGET_HAS_NO_ENGINE.
    """
    hashes = [h for path, h in sorted(release.manifest["files"].items()) if path.startswith("engine/")]
    if release.manifest["target"] != "tensorrt" or GRAPH not in release.manifest["files"]:
        raise EngineError(
            "TARGET_HAS_NO_ENGINE",
            f"Release {release.id} is of target `{release.manifest['target']}`, which needs no plan.",
            "Serve it as it is, or export the checkpoint with --target tensorrt.",
        )
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _require_whole(engine: Engine) -> None:
    try:
        with engine.plan.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _damaged(engine.folder, f"{PLAN} cannot be read ({error})") from None
    if found != engine.record["plan_sha256"]:
        raise _damaged(engine.folder, f"{PLAN} is not what was built")


def _damaged(folder: Path, how: str) -> EngineError:
    return EngineError(
        "ENGINE_DAMAGED", f"The plan in {folder} is damaged: {how}.", "Delete that folder and build it again."
    )


def _no_gpu(mend: str) -> EngineError:
    return EngineError("NO_GPU", "CUDA shows no GPU on this machine, which target `tensorrt` needs.", mend)


def _max_batch(release: Release) -> int:
    """Largest batch that the release's configuration lets through."""
    configuration = (release.repository / "nodule_encoder" / "config.pbtxt").read_text()
    found = re.search(r"^max_batch_size:\s*(\d+)", configuration, re.MULTILINE)
    assert found, "the configuration of nodule_encoder has no max_batch_size"
    return int(found[1])


def _gpu_word(gpu: str | None) -> str:
    return NO_GPU if gpu is None else f"sm{gpu.replace('.', '')}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _seconds(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp()
