"""The command `noduleserve`: its subcommands, and how an error is shown."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from . import __version__
from .errors import NoduleserveError
from .release import Release

_EPILOG = "Full documentation: README.md. Every error has a stable code, what is wrong and how to mend it."
_err = Console(stderr=True, highlight=False, soft_wrap=True)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


def main() -> None:
    """Run the command; an error on purpose is two lines and exit status 1, never a traceback."""
    try:
        app()
    except NoduleserveError as error:
        _err.print(f"noduleserve: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        _err.print("noduleserve: interrupted")
        sys.exit(130)


def _version(asked: bool) -> None:
    if asked:
        print(f"noduleserve {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Score lung nodules of CT screening with a fine-tuned CLIP on Triton Inference Server."""


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder with args.txt and fold_0, fold_1, ...")],
    out: Annotated[Path, typer.Option(help="Folder of the release; must not exist yet.")],
    lora_state: Annotated[
        Literal["auto", "merged", "unmerged"],
        typer.Option(help="Whether the weights hold their LoRA update already; auto finds out, or refuses."),
    ] = "auto",
    base: Annotated[
        Path | None,
        typer.Option(help="Weights before fine-tuning; decides --lora-state auto with one fold only."),
    ] = None,
    features: Annotated[Path | None, typer.Option(help="YAML of semantic features; default: the built-in one.")] = None,
    no_calibration: Annotated[bool, typer.Option(help="Leave the checkpoint's calibration out.")] = False,
    reproduce_published: Annotated[
        bool, typer.Option(help="Add fold 0's LoRA update twice, as the published evaluation script does.")
    ] = False,
    notice: Annotated[str, typer.Option(help="A sentence that every output of the release carries.")] = "",
) -> None:
    """Turn a checkpoint into a verified, immutable release.

    Examples:

        noduleserve export checkpoints/may --out releases/may

        noduleserve export checkpoints/may --out releases/may --lora-state merged --features my_features.yaml
    """
    try:
        from noduleserve.export.assemble import export_release
        from noduleserve.export.calibration import read_calibration
        from noduleserve.export.checkpoint import read_checkpoint
        from noduleserve.export.features import read_features
    except ModuleNotFoundError as error:
        raise _extra_missing(error, "export") from None
    wanted = read_features(features)
    with _err.status("reading") as status:

        def tell(line: str) -> None:
            status.update(line)

        model = read_checkpoint(
            checkpoint, lora_state=lora_state, base=base, reproduce_published=reproduce_published, tell=tell
        )
        calibration = None if no_calibration else read_calibration(checkpoint, len(model.folds))
        release = export_release(model, calibration, wanted, out, notice=notice, tell=tell)
    print(f"release {release.id} in {out}")
    print(f"  {len(model.folds)} folds, LoRA {model.lora_state} (decided by {model.decided_by}), ", end="")
    print("calibrated" if calibration else "not calibrated")
    figures = release.manifest["parity"]
    for name, largest in figures["largest"].items():
        print(f"  parity {name}: {largest:.2g} (at most {figures['tolerance'][name]:g})")


@app.command("convert-calibration")
def convert_calibration(
    checkpoint: Annotated[Path, typer.Argument(help="Folder with fold_0/cal_0.pkl, fold_1/cal_1.pkl, ...")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the pickles are trusted.")] = False,
) -> None:
    """Turn published calibration pickles into plain numbers, fold_K/calibration.json.

    Opening a pickle can run any code that is in it: do it only with files whose origin you trust.

    Example:

        noduleserve convert-calibration checkpoints/may --yes
    """
    try:
        import joblib  # noqa: F401
    except ModuleNotFoundError as error:
        raise _extra_missing(error, "calibration") from None
    from noduleserve.export.calibration import convert_calibration as convert

    _err.print("Opening a pickle can run any code that is in it.", style="yellow")
    if not yes:
        typer.confirm("Do you trust these files?", abort=True, err=True)
    for file in convert(checkpoint):
        print(f"{file}: {file.read_text().strip()}")


@app.command()
def serve(
    release: Annotated[Path, typer.Argument(help="Folder that `noduleserve export` wrote.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="gRPC; 0 takes any free port.")] = 8001,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP; 0 takes any free port.")] = 8000,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="Prometheus; 0 takes any free port.")] = 8002,
    log_file: Annotated[Path | None, typer.Option(help="Keep Triton's own log here.")] = None,
    encoder_threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the encoder; default: one a core.")
    ] = None,
    ready_timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for readiness.")] = 120.0,
) -> None:
    """Serve a release on Triton until SIGTERM or Ctrl-C.

    Checks every byte of the release first. Prints one line when it is ready.

    Examples:

        noduleserve serve releases/may

        noduleserve serve releases/may --grpc-port 9001 --http-port 9000 --metrics-port 9002
    """
    from noduleserve.server.process import Endpoints
    from noduleserve.server.serve import serve as run

    run(
        Release.open(release),
        Endpoints(host, grpc_port, http_port, metrics_port),
        log=log_file,
        encoder_threads=encoder_threads,
        ready_timeout=ready_timeout,
        tell=lambda line: print(line, flush=True),
    )


@app.command()
def score(
    worklist: Annotated[
        Path,
        typer.Argument(help="CSV with pid, nodule_id, image_path, coordX, coordY, coordZ (LPS millimetres)."),
    ],
    out: Annotated[Path, typer.Option(help="CSV of results.")],
    server: Annotated[str | None, typer.Option(help="HOST:PORT of a server's gRPC.")] = None,
    release: Annotated[Path | None, typer.Option(help="Start a private server on this release for the run.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image_path is relative to; default: the worklist's.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a one-file HTML report here.")] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Nodules read or sent and not answered, at most.")] = 8,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = 60.0,
    log_file: Annotated[Path | None, typer.Option(help="Keep the private server's log here.")] = None,
) -> None:
    """Score the nodules of a worklist.

    Every row of the worklist becomes a row of the results, with a score or with the reason why it has none.
    Exit status: 0 all scored, 3 some failed, 1 the run could not begin or broke off.

    Examples:

        noduleserve score tonight.csv --server 127.0.0.1:8001 --out results.csv

        noduleserve score tonight.csv --release releases/may --out results.csv --report report.html
    """
    from noduleserve.client.run import Options
    from noduleserve.client.worklist import read_worklist
    from noduleserve.progress import score_with_progress, summary_lines

    if (server is None) == (release is None):
        raise typer.BadParameter("give one of --server and --release", param_hint="--server / --release")
    nodules = read_worklist(worklist, root)
    options = Options(in_flight, deadline, views=report is not None)
    with _server_for(server, release, log_file) as address:
        run = score_with_progress(nodules, address, out, options)
    if report:
        from noduleserve.client.report import write_report

        command = shlex.join(["noduleserve", *sys.argv[1:]])
        write_report(report, run.outcomes, run.info, stages=run.stages, worklist=worklist.name, command=command)
    for line in summary_lines(run):
        print(line)
    print(f"results: {out}" + (f", report: {report}" if report else ""))
    if run.counts["scored"] != len(nodules):
        raise typer.Exit(3)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the CT, results.csv and report.html.")] = Path("demo-out"),
    release: Annotated[Path | None, typer.Option(help="Serve this release; default: the demo's own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the synthetic CT.")] = 7,
) -> None:
    """Score a synthetic chest CT with five nodules through Triton, and look at the result.

    Example:

        noduleserve demo --out demo-out
    """
    from noduleserve.demo.command import RELEASE, run_demo

    run = run_demo(out, release or RELEASE, seed)
    if run.counts["scored"] != len(run.outcomes):
        raise typer.Exit(3)


bench = typer.Typer(no_args_is_help=True, help="Measure speed as a ratio to a baseline in the same run.")
app.add_typer(bench, name="bench")


@bench.command("preprocessing")
def bench_preprocessing(
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 7,
) -> None:
    """Views and cube on one core, against the straightforward way with scipy."""
    try:
        from noduleserve.benchmarks.preprocessing import bench_preprocessing as measure
    except ModuleNotFoundError as error:
        raise _extra_missing(error, "bench") from None
    from noduleserve.benchmarks.measure import table

    print(table(measure(turns)))


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
    from noduleserve.client.worklist import read_worklist
    from noduleserve.demo.command import make_worklist

    with tempfile.TemporaryDirectory() as folder:
        nodules = read_worklist(worklist or make_worklist(Path(folder)))
        ratios = measure(Release.open(release), nodules, count, turns, _err.print)
    print(table(ratios))


@contextlib.contextmanager
def _server_for(server: str | None, release: Path | None, log: Path | None) -> Iterator[str]:
    """The address of the server that is named, or of a private one that lives as long as the block."""
    if release is None:
        assert server is not None
        yield server
        return
    from noduleserve.server.process import Endpoints, TritonProcess

    # An exit that passes through here ends the private server and clears its files; the default would not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _err.status("checking the release and starting Triton"):
        process = TritonProcess(Release.open(release), Endpoints(grpc=0, http=0, metrics=0), log=log)
        process.__enter__()
    with contextlib.ExitStack() as end:
        end.push(process)
        yield process.endpoints.address


def _extra_missing(error: ModuleNotFoundError, extra: str) -> NoduleserveError:
    return NoduleserveError(
        "EXTRA_MISSING",
        f"This command needs the Python package {error.name}, which is not installed.",
        f"Run `pip install 'noduleserve[{extra}]'`.",
    )


if __name__ == "__main__":
    main()
