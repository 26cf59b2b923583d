"""`noduleserve build-engine`: a release of target `tensorrt` gets its plan, on the machine that serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noduleserve.release import Release

from .console import err


def build_engine(
    release: Annotated[Path, typer.Argument(help="A release of target `tensorrt`.")],
    engines: Annotated[
        Path | None,
        typer.Option(help="Folder of plans; default: NODULESERVE_ENGINES, else RELEASE.engines beside the release."),
    ] = None,
    repository: Annotated[
        Path | None, typer.Option(help="Also write a complete model repository here, for a stock Triton container.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Also for later TensorRT of this major number; slower.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="For every GPU from Ampere on; slower.")
    ] = False,
    workspace: Annotated[int | None, typer.Option(min=1, help="MiB that kernels may use; default: all.")] = None,
    log: Annotated[Path | None, typer.Option(help="TensorRT's messages; default: build.log beside the plan.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build although the plan is there.")] = False,
    without_gpu: Annotated[
        bool, typer.Option("--without-gpu", help="Build without a GPU, to look at; such a plan is never served.")
    ] = False,
) -> None:
    """Build the TensorRT plan of a release, on the GPU that will serve it.

    Examples:

        noduleserve build-engine releases/may && noduleserve serve releases/may

        noduleserve build-engine releases/may --repository /models && tritonserver --model-repository=/models
    """
    from noduleserve.engines.plan import Options
    from noduleserve.engines.repository import compose_repository
    from noduleserve.engines.store import build_engine as build
    from noduleserve.engines.store import store_of

    if repository and without_gpu:
        raise typer.BadParameter("a plan that was built without a GPU is never served", param_hint="--repository")
    opened = Release.open(release)
    with err.status("building the plan, which takes minutes") as status:
        engine = build(
            opened,
            store_of(opened, engines),
            options=Options(version_compatible, hardware_compatible),
            without_gpu=without_gpu,
            force=force,
            log=log,
            workspace=workspace and workspace * 2**20,
            tell=lambda line: status.update(line.splitlines()[0][:120] if line.strip() else ""),
        )
    print(f"plan {engine.plan} ({engine.record['plan_bytes'] / 1e6:.0f} MB)")
    print(f"  for {engine}, built in {engine.record['seconds']} s")
    for number, profile in enumerate(engine.record["profiles"]):
        print("  profile {}: batches of {smallest} to {largest}, tuned at {tuned}".format(number, **profile))
    if repository:
        compose_repository(opened, repository, engine.plan, copy=True)
        option = " --backend-config=tensorrt,version-compatible=true" if version_compatible else ""
        print(f"  served by: tritonserver --model-repository={repository}{option}")
