"""`noduleserve inspect` and `noduleserve verify`: looking at a release, and proving it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from noduleserve.release import Release

from .console import err

RELEASE = typer.Argument(help="Folder that `noduleserve export` wrote.")


def inspect(
    release: Annotated[Path, RELEASE],
    as_json: Annotated[bool, typer.Option("--json", help="Print MANIFEST.json instead.")] = False,
) -> None:
    """Show what a release is: its model, parity figures, features, calibration. Checks every byte first.

    Example:

        noduleserve inspect releases/may
    """
    from noduleserve.inspect import page_of

    opened = Release.open(release)
    if as_json:
        print(json.dumps(opened.manifest, indent=1, sort_keys=True))
    else:
        Console(highlight=False).print(page_of(opened))


def verify(
    release: Annotated[Path, RELEASE],
    hashes_only: Annotated[bool, typer.Option(help="Check hashes and manifest; do not serve it.")] = False,
    log_file: Annotated[Path | None, typer.Option(help="Keep Triton's log here.")] = None,
) -> None:
    """Prove a release on this machine: every byte, its manifest, and its encoder as Triton serves it.

    The proof's nodules (synthetic, stored in the release) are sent to a private server, alone and in every slot of
    every batch size, and compared with what the checkpoint computed in PyTorch at export.

    Examples:

        noduleserve verify releases/may

        noduleserve verify releases/may --hashes-only
    """
    from noduleserve.manifest import check_schema
    from noduleserve.verify import verify as prove

    if hashes_only:
        opened = Release.open(release)
        check_schema(opened.manifest)
        print(f"release {opened.id}: every byte and the manifest are right")
        return
    with err.status("verifying") as status:
        opened, verified = prove(release, log=log_file, tell=lambda line: status.update(line))
    print(f"release {opened.id}: every byte and the manifest are right; served on this machine:")
    for quantity, limit in verified.link.tolerance.items():
        print(f"  {quantity}: {max(verified.link.largest[quantity]):.2g} from PyTorch (at most {limit:g})")
    print(f"  slots: {verified.slots.largest:.2g} (at most {verified.slots.tolerance:g})")
    verified.require()
