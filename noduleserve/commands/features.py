"""`noduleserve features`: the semantic features to start from, and a check of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import err, extra_missing

if TYPE_CHECKING:
    from noduleserve.export.text.features import Features
    from noduleserve.export.text.tokens import TokenCounter


def features(
    check: Annotated[
        Path | None, typer.Option(help="Check this features file, and print what it says, instead.")
    ] = None,
) -> None:
    """Print the built-in file of semantic features, to start your own from, or check a file.

    Examples:

        noduleserve features > my_features.yaml

        noduleserve features --check my_features.yaml
    """
    try:
        from noduleserve.export.text.features import built_in_text, read_features
    except ModuleNotFoundError as error:
        raise extra_missing(error, "export") from None
    if check is None:
        print(built_in_text(), end="")
        return
    wanted = read_features(check)
    tokens: TokenCounter | None = None
    try:  # the tokenizer comes with open_clip, which brings torch
        from noduleserve.export.text.tokens import ClipTokens, require_short_prompts

        tokens = clip = ClipTokens()
        require_short_prompts(wanted, clip)
    except ModuleNotFoundError as error:
        err.print(f"{error.name} is not installed: the prompts' length in tokens is checked by the export only.")
    _print_table(wanted, tokens)


def _print_table(wanted: Features, tokens: TokenCounter | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for title in ("feature", "values", "prompts each"):
        table.add_column(title, overflow="fold")
    if tokens:
        table.add_column("longest, tokens", justify="right")
    for feature, values in wanted.prompts.items():
        counts = ", ".join(str(len(prompts)) for prompts in values.values())
        longest = [str(max(tokens.token_count(p) for ps in values.values() for p in ps))] if tokens else []
        table.add_row(feature, ", ".join(values), counts, *longest)
    Console(markup=False).print(table)
    total = sum(len(prompts) for _, _, prompts in wanted.values())
    print(f"{len(wanted.prompts)} features, {len(wanted.labels)} values, {total} prompts")
