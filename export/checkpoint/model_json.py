"""model.json of the layout open_clip + PEFT: read strictly, since a misread key would be a wrong model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from noduleserve.errors import CheckpointError

from . import arguments
from .arguments import require_count, require_tuning
from .weights import LoraState, Tuning

FILE, FORMAT = "model.json", 1
LAYOUT: Literal["open_clip+peft"] = "open_clip+peft"


@dataclass(frozen=True)
class ModelFile:
    """What model.json says.

    Attributes:
        tuning: how the folds were trained.
        folds: their number.
        open_clip: name of the base's architecture in open_clip; None for one that open_clip has no name for.
        pretrained: open_clip's tag of the base weights, used where `base` is None.
        base: file of the base weights, relative to the folder; None where `pretrained` names them or the folds hold
            every weight themselves.
        args: what the training was given.
        args_txt: args.txt of the published layout to the letter, where the checkpoint was converted from it.
        lora_state: of the published files, where the checkpoint was converted from them. `merged` means that a
            fold's weight is base + update + what rounding.safetensors holds.
    """

    tuning: Tuning
    folds: int
    open_clip: str | None = None
    pretrained: str | None = None
    base: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    args_txt: str | None = None
    lora_state: LoraState | None = None

    def text(self) -> str:
        """As JSON."""
        return json.dumps({"format": FORMAT, "layout": LAYOUT} | asdict(self), indent=1) + "\n"


def read_model_file(folder: Path) -> ModelFile:
    """Read and check model.json.

    Raises:
        CheckpointError: MODEL_FILE, CHECKPOINT_TUNING, CHECKPOINT_ARGS.
    """
    try:
        content = json.loads((folder / FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise _wrong(f"cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise _wrong("is not an object")
    if content.pop("format", None) != FORMAT:
        raise _wrong(f"has not the format {FORMAT}, the only one that there is")
    if content.pop("layout", None) != LAYOUT:
        raise _wrong(f"has not the layout {LAYOUT!r}")
    if strange := sorted(content.keys() - ModelFile.__dataclass_fields__.keys()):
        raise _wrong(f"has the unknown {', '.join(strange)}")
    if missing := sorted({"tuning", "folds"} - content.keys()):
        raise _wrong(f"lacks {', '.join(missing)}")
    require_tuning(content["tuning"], FILE)
    require_count(content, "folds", FILE)
    for key in ("open_clip", "pretrained", "base", "args_txt"):
        if content.get(key) is not None and not isinstance(content[key], str):
            raise _wrong(f"says {key}={content[key]!r}, which is neither text nor null")
    if not isinstance(content.get("args", {}), dict):
        raise _wrong("has args that are not an object")
    if content.get("lora_state") not in (None, "merged", "unmerged"):
        raise _wrong(f"says lora_state={content['lora_state']!r}")
    model = ModelFile(**content)
    if model.pretrained and not model.open_clip:
        raise _wrong("names pretrained weights, but no open_clip model that they are of")
    if model.lora_state and model.tuning != "lora":
        raise _wrong(f"has a lora_state, but tuning {model.tuning!r}")
    return model


def args_of(model: ModelFile) -> dict[str, Any]:
    """The training's arguments: from args_txt where there is one, since JSON has no tuples.

    Raises:
        CheckpointError: CHECKPOINT_ARGS; MODEL_FILE where args_txt speaks of another checkpoint.
    """
    if model.args_txt is None:
        return model.args
    args = arguments.parse_args(model.args_txt)
    if (args["n_splits"], args["tuning"]) != (model.folds, model.tuning):
        raise _wrong("has an args_txt with other folds or another tuning than it has itself")
    return args


def _wrong(why: str) -> CheckpointError:
    return CheckpointError("MODEL_FILE", f"{FILE} {why}.", "See docs/checkpoint-layouts.md for what it must say.")
