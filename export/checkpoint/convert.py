"""From one layout to the other and back, losing nothing: every tensor comes back bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from noduleserve.errors import CheckpointError
from noduleserve.export.new_folder import new_folder

from . import arguments, calibration, lora
from .layout import weights_of
from .model_json import LAYOUT as OPEN_CLIP_PEFT
from .read import Asked, decide, read_contents
from .tensors import same_bits
from .weights import Contents, Layout
from .write_open_clip_peft import write_open_clip_peft
from .write_published import write_published


@dataclass(frozen=True)
class Converted:
    """What came of a conversion.

    Attributes:
        layout: of the new folder.
        folds: their number.
        lora_state: of the published files, `merged` or `unmerged`; None where there is no LoRA.
        calibrations: how many calibration.json were taken along.
        left_behind: files that were not: calibrations that are pickles.
    """

    layout: Layout
    folds: int
    lora_state: str | None
    calibrations: int
    left_behind: tuple[str, ...]


def convert(
    folder: Path,
    to: Layout,
    out: Path,
    *,
    lora_state: Asked = "auto",
    base: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Converted:
    """Write a checkpoint in another layout; nothing is left behind if anything fails.

    What was written is read back and compared with what was read, bit for bit.

    Args:
        folder: the checkpoint.
        to: the layout to write.
        out: the new folder; must not exist.
        lora_state: as in `read_checkpoint`; needed where one fold only does not tell.
        base: as in `read_checkpoint`.
        tell: is called with a line of progress before each long step.

    Raises:
        CheckpointError: OUT_EXISTS, CONVERT_NOTHING where the folder has that layout already, CONVERT_UNSUPPORTED
            where the layout cannot hold the checkpoint, CONVERT_DIFFERS where what was written reads otherwise;
            everything that reading raises.
    """
    if out.exists() or out.is_symlink():
        raise CheckpointError("OUT_EXISTS", f"{out} exists.", "Name a folder that does not.")
    contents = read_contents(folder, tell=tell)
    if contents.layout == to:
        raise CheckpointError("CONVERT_NOTHING", f"{folder} is in the layout {to} already.", "Name the other one.")
    with new_folder(out) as work:
        if to == OPEN_CLIP_PEFT:
            folds = [weights_of(fold) for fold in contents.folds]
            state, _ = decide(contents, folds, contents.updates, lora_state, base, tell)
            weights = lora.base_of(folds[0], contents.updates[0], state) if state else {}
            write_open_clip_peft(contents, weights, state, work, tell)
        else:
            state = contents.lora_state
            write_published(contents, work, tell)
        copied = _copy_calibrations(folder, work, len(contents.folds))
        tell("reading it back")
        _require_same(contents, read_contents(work), state)
    pickles = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.glob("fold_*/cal_*.pkl")))
    return Converted(to, len(contents.folds), state, copied, pickles)


def _copy_calibrations(folder: Path, out: Path, folds: int) -> int:
    """Take the calibrations along that are plain numbers; how many there were."""
    files = [Path(f"fold_{number}") / calibration.FILE for number in range(folds)]
    there = [file for file in files if (folder / file).is_file()]
    for file in there:
        shutil.copyfile(folder / file, out / file)
    return len(there)


def _require_same(read: Contents, written: Contents, lora_state: str | None) -> None:
    """Refuse a copy that is not one."""
    differing: list[str] = []
    for number, (a, b) in enumerate(zip(read.folds, written.folds, strict=True)):
        same = {key for key in a.keys() & b.keys() if same_bits(a[key], b[key])}
        differing += [f"fold_{number}: {key}" for key in sorted((a.keys() | b.keys()) - same)]
    scales = [[{layer: u.scale for layer, u in fold.items()} for fold in c.updates] for c in (read, written)]
    if scales[0] != scales[1]:
        differing.append("the scaling of LoRA")
    if read.args_text is not None and read.args_text != written.args_text:
        differing.append(arguments.FILE)
    if written.lora_state not in (None, lora_state):
        differing.append("whether LoRA is merged")
    if differing:
        raise CheckpointError(
            "CONVERT_DIFFERS",
            f"What was written reads otherwise than what was read: {', '.join(differing[:4])} ({len(differing)}).",
            "Nothing was kept. Report it with the checkpoint's args.txt or model.json.",
        )
