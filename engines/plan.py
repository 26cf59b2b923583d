"""An ONNX graph becomes a TensorRT plan.

The graph is strongly typed: its tensors' types are the engine's, and no builder flag of precision is set. TensorRT 11
knows no other kind of network; TensorRT 10 is told by a creation flag, which later versions may drop. So the flag is
given where it exists. One flag of precision is cleared in both: TF32, which would compute FP32 products with ten bits.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from noduleserve.errors import EngineError

from .inspection import describe_network, inspect_plan
from .machine import compute_capability, import_tensorrt
from .messages import logger_of, monitor_of

INPUT = "VIEWS"


@dataclass(frozen=True)
class Profile:
    """Batch sizes that one set of kernels is for.

    Attributes:
        smallest, tuned, largest: numbers of nodules.
    """

    smallest: int
    tuned: int
    largest: int


@dataclass(frozen=True)
class Options:
    """What else there is to choose.

    Attributes:
        version_compatible: the plan also runs on later versions of TensorRT of the same major number; a little slower.
        hardware_compatible: the plan runs on every GPU from Ampere on, compute capability 8.0; slower.
    """

    version_compatible: bool = False
    hardware_compatible: bool = False

    def names(self) -> list[str]:
        """Of the options that are chosen."""
        return [name for name, chosen in asdict(self).items() if chosen]


PLAIN = Options()


@dataclass(frozen=True)
class Plan:
    """A built engine.

    Attributes:
        content: the plan's bytes.
        seconds: that the build took.
        network: what `describe_network` says of the graph.
        engine: what `inspect_plan` says of the plan; None where there is no GPU to load it.
    """

    content: memoryview
    seconds: float
    network: dict[str, Any]
    engine: dict[str, Any] | None


def profiles_for(max_batch: int) -> tuple[Profile, ...]:
    """The profiles of a release that takes batches up to a size.

    Profile 0 holds a single nodule and nothing else: the nodule that a radiologist waits for. With every shape fixed,
    TensorRT picks kernels for latency, and Triton replays the whole engine as one CUDA graph. Profile 1 holds every
    larger batch and is tuned at the largest, since in a night's run the queue is never empty. Triton takes the profile
    that admits a batch; no batch is admitted by both.
    """
    single = Profile(1, 1, 1)
    return (single,) if max_batch == 1 else (single, Profile(2, max_batch, max_batch))


def build_plan(
    onnx: Path,
    *,
    profiles: Sequence[Profile],
    log: Path,
    options: Options = PLAIN,
    timing_cache: Path | None = None,
    workspace: int | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Plan:
    """Build a plan for the GPU of this machine.

    Args:
        onnx: a strongly typed graph with the input VIEWS; external data lie beside it.
        profiles: batch sizes.
        log: file for TensorRT's own messages.
        options: compatibilities.
        timing_cache: file of kernel timings; read if it is there, written in the end: the next build is quicker.
        workspace: bytes that kernels may use beside weights and activations; by default what the GPU has.
        tell: is called with TensorRT's messages and the steps of the build.

    Raises:
        EngineError: TENSORRT_NOT_FOUND; ONNX_NOT_PARSED, ENGINE_NOT_BUILT, each with TensorRT's own words.
    """
    trt = import_tensorrt()
    began = time.monotonic()
    with log.open("w") as file:

        def said(line: str) -> None:
            print(line, file=file, flush=True)
            tell(line)

        logger = logger_of(trt, said)
        builder = trt.Builder(logger)
        network = _parse(trt, logger, builder, onnx)
        config = builder.create_builder_config()
        for profile in profiles:
            config.add_optimization_profile(_shapes(builder, network, profile))
        configure(trt, config, options, workspace)
        monitor = config.progress_monitor = monitor_of(trt, tell)  # held here: the builder does not keep it alive
        cache = _read_cache(config, timing_cache)
        memory = builder.build_serialized_network(network, config)
        del monitor
        if memory is None:
            raise EngineError(
                "ENGINE_NOT_BUILT",
                f"TensorRT {trt.__version__} built no engine: {logger.last_errors()}.",
                "Try `noduleserve build-engine --log FILE` for all of TensorRT's messages.",
            )
        if timing_cache:
            write_whole(timing_cache, memoryview(cache.serialize()))
        seconds, content = time.monotonic() - began, memoryview(memory)
        engine = inspect_plan(content, said) if compute_capability() else None
        return Plan(content, seconds, describe_network(network), engine)


def _parse(trt: ModuleType, logger: Any, builder: Any, onnx: Path) -> Any:
    """The network that TensorRT makes of a graph."""
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        errors = [parser.get_error(i) for i in range(min(3, parser.num_errors))]
        words = "; ".join(f"{e.node_name() or 'the file'}: {e.desc()}" for e in errors)
        raise EngineError(
            "ONNX_NOT_PARSED",
            f"TensorRT {trt.__version__} does not read {onnx.name}: {words or logger.last_errors()}.",
            "Use TensorRT 10.0 or later; a release's graph is the same for all of them.",
        )
    return network


def _shapes(builder: Any, network: Any, profile: Profile) -> Any:
    made = builder.create_optimization_profile()
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    (nodule,) = [tuple(tensor.shape)[1:] for tensor in inputs if tensor.name == INPUT]
    made.set_shape(INPUT, *((size, *nodule) for size in (profile.smallest, profile.tuned, profile.largest)))
    return made


def configure(trt: ModuleType, config: Any, options: Options, workspace: int | None) -> None:
    """Tell the builder what is chosen; of precisions only that TF32 is not to be used."""
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the inspector tells types
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)


def _read_cache(config: Any, path: Path | None) -> Any:
    """The timing cache, taken into the configuration; one that is of another GPU or version is begun anew."""
    if path is None:
        return None
    if path.is_file():
        cache = config.create_timing_cache(path.read_bytes())
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    cache = config.create_timing_cache(b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def write_whole(path: Path, content: memoryview) -> None:
    """Write a file so that whoever reads it at any moment gets the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
