"""The command `noduleserve`: its subcommands, and how an error is shown."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Annotated

import typer

from . import __version__
from .commands.bench import bench
from .commands.build_engine import build_engine
from .commands.calibration import convert_calibration, fit_calibration
from .commands.codes import codes
from .commands.console import err
from .commands.convert import convert
from .commands.demo import demo
from .commands.evaluate import evaluate
from .commands.export import export, reprompt
from .commands.features import features
from .commands.journal import journal
from .commands.look import look
from .commands.release import inspect, verify
from .commands.report import report
from .commands.results import results
from .commands.score import score
from .commands.serve import serve
from .commands.train import train
from .commands.worklist import worklist
from .errors import NoduleserveError

_EPILOG = "Full documentation: README.md. Every error has a stable code, what is wrong and how to mend it."

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
    # pydicom's own warnings quote values and full paths, and with them the patient.
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    try:
        app()
    except NoduleserveError as error:
        err.print(f"noduleserve: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("noduleserve: interrupted")
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


# In the order of `noduleserve --help`: the way of a release.
app.command()(train)
app.command()(export)
app.command()(reprompt)
app.command()(inspect)
app.command()(verify)
app.command()(features)
app.command()(convert)
app.command("convert-calibration")(convert_calibration)
app.command("fit-calibration")(fit_calibration)
app.command("build-engine")(build_engine)
app.command()(serve)
app.command()(worklist)
app.command()(look)
app.command()(score)
app.command()(results)
app.command()(report)
app.command()(journal)
app.command()(evaluate)
app.command()(codes)
app.command()(demo)
app.add_typer(bench, name="bench")


if __name__ == "__main__":
    main()
