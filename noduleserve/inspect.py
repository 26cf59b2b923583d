"""`noduleserve inspect`: a release's manifest as a page that a person reads."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .export.proof.parity import QUANTITIES
from .release import Release


def page_of(release: Release) -> RenderableType:
    """The page, to be printed by rich."""
    manifest = release.manifest
    parts: list[RenderableType] = [Text(f"release {release.id}", style="bold"), _facts(release)]
    if manifest["parity_failed"]:
        parts.append(Text("This release MISSED its parity tolerances and was written on request.", style="bold red"))
    parts += [_parity(manifest["parity"]), _features(manifest)]
    if manifest["calibration"]:
        parts.append(_calibration(manifest["calibration"]))
    return Group(*parts)


def _facts(release: Release) -> Table:
    manifest = release.manifest
    checkpoint, model = manifest["checkpoint"], manifest["model"]
    image, text = model["image_tower"], model["text_tower"]
    files = [release.folder / path for path in manifest["files"]]
    encoder = sum(f.stat().st_size for f in files if ".onnx" in f.name)
    lora = f", LoRA {checkpoint['lora_state']} (by {checkpoint['lora_state_decided_by']})"
    rows = {
        "notice": manifest["notice"],
        "created": manifest["created"],
        "target": f"{manifest['target']}, {manifest['precision']}",
        "model": f"ViT {image['width']} x {image['layers']}, patch {model['patch']}; text {text['width']} x "
        f"{text['layers']}; embedding {model['embedding']}",
        "folds": f"{manifest['folds']}, {'calibrated' if manifest['calibrated'] else 'not calibrated'}",
        "checkpoint": f"{checkpoint['layout']}, {checkpoint['tuning']}{lora if checkpoint['lora_state'] else ''}"
        + (", REPRODUCES THE PUBLISHED EVALUATION" if checkpoint["reproduces_published"] else ""),
        "re-prompted from": manifest.get("reprompted_from", ""),
        "encoder": f"{encoder / 1e6:.1f} MB",
        "size": f"{sum(f.stat().st_size for f in files) / 1e6:.1f} MB in {len(files)} files",
        "tools": ", ".join(f"{name} {version}" for name, version in manifest["tools"].items()),
    }
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table


def _parity(parity: dict[str, Any]) -> RenderableType:
    table = Table(title=f"parity: {parity['nodules']} nodules ({parity['source']})", title_justify="left")
    for column in ("link", "quantity", "largest", "mean", "at most"):
        table.add_column(column, justify="left" if column in ("link", "quantity") else "right")
    for link in parity["links"]:
        for number, quantity in enumerate(QUANTITIES):
            limit = link["tolerance"][quantity]
            largest, mean = max(link["largest"][quantity]), sum(link["mean"][quantity]) / len(link["mean"][quantity])
            name = f"{link['name']}: {link['before']} -> {link['after']}" if number == 0 else ""
            style = None if largest <= limit else "bold red"
            table.add_row(name, quantity, f"{largest:.2g}", f"{mean:.2g}", f"{limit:g}", style=style)
        table.add_section()
    slots = parity["slots"]
    sizes = f"{min(slots['batch_sizes'])}..{max(slots['batch_sizes'])}"
    table.add_row(f"slots: batches of {sizes}", "probability", f"{slots['largest']:.2g}", "", f"{slots['tolerance']:g}")
    lines: list[RenderableType] = [table]
    if decisions := parity["decisions"]:
        lines.append(
            Text(
                f"of {decisions['nodules']} nodules {decisions['changed_at_half']} change side at 0.5; of the "
                f"{decisions['top_decile']} in the highest tenth {decisions['left_top_decile']} leave it"
            )
        )
    return Group(*lines, *(Text(f"not run at export: {line}") for line in parity["not_run"]))


def _features(manifest: dict[str, Any]) -> Table:
    table = Table(title="semantic features", title_justify="left")
    for column in ("feature", "values", "prompts"):
        table.add_column(column)
    values: dict[str, list[str]] = {}
    for label in manifest["labels"]:  # in the order of the features file, which JSON objects do not keep
        feature, value = label.split(".", 1)
        values.setdefault(feature, []).append(value)
    for feature, names in values.items():
        prompts = manifest["prompts"][feature]
        table.add_row(feature, ", ".join(names), str(sum(len(prompts[name]) for name in names)))
    return table


def _calibration(numbers: list[dict[str, float]]) -> Table:
    table = Table(title="beta calibration: sigmoid(a ln p - b ln(1-p) + c)", title_justify="left")
    for column in ("fold", "a", "b", "c"):
        table.add_column(column, justify="right")
    for fold, n in enumerate(numbers):
        table.add_row(str(fold), *(f"{n[key]:.4g}" for key in "abc"))
    return table
