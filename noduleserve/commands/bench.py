"""`noduleserve bench ...`: speed as a ratio to a baseline in the same run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from noduleserve.release import Release

from .bench_decoders import bench_decoders
from .bench_soak import bench_soak
from .console import err, extra_missing

bench = typer.Typer(no_args_is_help=True, help="Measure speed as a ratio to a baseline in the same run.")


@bench.command("preprocessing")
def bench_preprocessing(
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 7,
    requests: Annotated[
        int | None, typer.Option(min=4, help="Instead: send so many to nodule_preprocess in Triton, watch its memory.")
    ] = None,
    release: Annotated[Path | None, typer.Option(help="With --requests: whose it is; default: the demo's.")] = None,
) -> None:
    """Views and cube on one core, against the straightforward way with scipy; or memory over many requests.

    Example:

        noduleserve bench preprocessing --requests 10000
    """
    if requests:
        from noduleserve.benchmarks.preprocessing_server import watch_preprocessing
        from noduleserve.demo.command import RELEASE

        print(watch_preprocessing(Release.open(release or RELEASE), requests, tell=err.print).table())
        return
    if release:
        raise typer.BadParameter("--release goes with --requests.")
    try:
        from noduleserve.benchmarks.preprocessing import bench_preprocessing as measure
    except ModuleNotFoundError as error:
        raise extra_missing(error, "bench") from None
    from noduleserve.benchmarks.measure import table

    print(table(measure(turns)))


@bench.command("encoder")
def bench_encoder(
    release: Annotated[Path | None, typer.Argument(help="A release of target `embedded`.")] = None,
    untrained: Annotated[
        Literal["tiny", "ViT-B/32"] | None, typer.Option(help="Instead of a release: random weights of that size.")
    ] = None,
    folds: Annotated[int, typer.Option(min=1, help="Folds of the random weights.")] = 5,
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 5,
) -> None:
    """The encoder alone: every runtime and precision that this machine's CPU has, on one nodule.

    Example:

        noduleserve bench encoder --untrained ViT-B/32
    """
    try:
        from noduleserve.benchmarks.encoder import bench_encoder as measure
        from noduleserve.benchmarks.encoder import graph_of_release, table, untrained_graph
    except ModuleNotFoundError as error:
        raise extra_missing(error, "export") from None

    if untrained and not release:
        graph = untrained_graph(untrained, folds, err.print)
    elif release and not untrained:
        graph = graph_of_release(Release.open(release))
    else:
        raise typer.BadParameter("Name a release, or a size with --untrained.")
    print(table(*measure(graph, turns, tell=err.print)))


@bench.command("serving")
def bench_serving(
    release: Annotated[Path, typer.Argument(help="A release of target `embedded`.")],
    worklist: Annotated[Path | None, typer.Option(help="Nodules of your own; default: the phantom's.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Nodules of one turn.")] = 40,
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 3,
) -> None:
    """The whole way, DICOM on disk to results, against the bare encoder on the same cores.

    Example:

        noduleserve bench serving releases/may --worklist tonight.csv
    """
    from noduleserve.benchmarks.measure import table
    from noduleserve.benchmarks.serving import bench_serving as measure
    from noduleserve.demo.command import make_worklist
    from noduleserve.worklist.table import read_worklist

    with tempfile.TemporaryDirectory() as folder:
        nodules = read_worklist(worklist or make_worklist(Path(folder)))
        ratios = measure(Release.open(release), nodules, count, turns, err.print)
    print(table(ratios))


bench.command("decoders")(bench_decoders)
bench.command("soak")(bench_soak)


@bench.command("results")
def bench_results(
    count: Annotated[int, typer.Option(min=1, help="Nodules of each file.")] = 5000,
    turns: Annotated[int, typer.Option(min=1, help="How often each format is written.")] = 5,
) -> None:
    """The formats of results: seconds to write and size, for 1,000 nodules.

    Example:

        noduleserve bench results --count 20000
    """
    from noduleserve.benchmarks.results_formats import bench_results as measure
    from noduleserve.benchmarks.results_formats import table

    print(table(*measure(count, turns)))
