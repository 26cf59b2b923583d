"""Another set of prompts over the same weights: a new release that takes over the old one's image encoder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noduleserve.errors import ReleaseError
from noduleserve.manifest import check_schema
from noduleserve.release import EVIDENCE, REPOSITORY, STAMP, Release, seal

from .checkpoint import Checkpoint, read_checkpoint
from .manifest import facts_of, now, prompts_of, tools
from .new_folder import new_folder
from .proof.torch_model import TextModel
from .repository import LABELLED, write_configuration
from .text.features import Features
from .text.text_bank import TextBank, require_short_prompts, value_embeddings

_SEALED = ("files", "evidence", "release_id", "seal", "format")


def reprompt(
    release: Release,
    checkpoint: Path,
    features: Features,
    out: Path,
    *,
    base: Path | None = None,
    notice: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Release:
    """Write a release with the encoder, the calibration and the evidence of another, and a text bank of its own.

    Args:
        release: the other, checked by `Release.open`.
        checkpoint: the folder that it was exported from; only the text towers are read.
        features: the new ones.
        out: the new release's folder; must not exist or be empty.
        base: as at export.
        notice: in place of the release's.
        tell: is called with a line of progress before each long step.

    Raises:
        ReleaseError: OUT_NOT_EMPTY, CHECKPOINT_NOT_OF_RELEASE.
    """
    old = release.manifest
    state: Any = old["checkpoint"]["lora_state"] or "auto"
    model = read_checkpoint(checkpoint, part="text", lora_state=state, base=base, tell=tell)
    if model.sha256 != old["checkpoint"]["files"]:
        differing = sorted({f for f, h in model.sha256.items() ^ old["checkpoint"]["files"].items()})
        raise ReleaseError(
            "CHECKPOINT_NOT_OF_RELEASE",
            f"{checkpoint} is not what release {release.id} was made of: {', '.join(differing[:4])}.",
            "Name its checkpoint, or export this one.",
        )
    facts = facts_of(old["folds"], old["calibrated"], features, old["notice"] if notice is None else notice)
    facts["preprocessing"] = old["preprocessing"]  # the models are those of the old release, code included
    with new_folder(out) as work:
        bank = _bank(model, features, tell)
        tell("assembling the release")
        _take_over(release, work)
        write_configuration(work / REPOSITORY, facts, old["model"]["embedding"], old["target"], LABELLED)
        bank.save(work / REPOSITORY / "nodule_similarity" / "1" / "text_bank.npz")
        check_schema(seal(work, _manifest(release, features, facts)).manifest)
    return Release.open(out)


def _bank(checkpoint: Checkpoint, features: Features, tell: Callable[[str], None]) -> TextBank:
    model, texts = TextModel(checkpoint.dimensions), []
    require_short_prompts(features, model)
    for number, fold in enumerate(checkpoint.folds):
        tell(f"fold {number}: text bank")
        model.load(fold)
        texts.append(value_embeddings(features, model))
    return TextBank.of(features, checkpoint.folds, texts)


def _take_over(release: Release, work: Path) -> None:
    """Copy a release's files but for what is written anew; large ones are linked where the disk can."""
    for path in (*release.manifest["files"], *release.manifest["evidence"]):
        source, target = release.folder / path, work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if ".onnx" in source.name:
            try:
                os.link(source, target)
            except OSError:  # another disk, or one without links
                shutil.copyfile(source, target)
        else:
            shutil.copyfile(source, target)
    assert not any(p.name == STAMP for p in work.rglob("*"))


def _manifest(release: Release, features: Features, facts: dict[str, Any]) -> dict[str, Any]:
    assert set(release.manifest["evidence"]) <= set(EVIDENCE)
    kept = {key: value for key, value in release.manifest.items() if key not in _SEALED}
    changed = {"created": now(), "prompts": prompts_of(features), "reprompted_from": release.id, "tools": tools()}
    return kept | facts | changed
