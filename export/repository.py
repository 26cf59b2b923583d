"""The model repository of a release, written from the templates: all of it but weights and stamps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from .targets import MAX_BATCH

MODELS = ("nodule_preprocess", "nodule_encoder", "nodule_similarity", "nodule_score")
LABELLED = ("nodule_similarity", "nodule_score")  # whose answers the labels name
LABELS = "semantic_labels.txt"


def write_repository(repository: Path, facts: dict[str, Any], embedding: int, target: str) -> None:
    """Write the model repository of a release, all but its weights and its stamps.

    Args:
        repository: the folder to make.
        facts: what clients are told: folds, calibrated, labels, notice, preprocessing.
        embedding: width of the nodule's embedding.
        target: whose nodule_encoder.
    """
    with resources.as_file(resources.files("noduleserve.model_repository")) as templates:
        for model in MODELS:
            version = repository / model / "1"
            version.mkdir(parents=True)
            if model == "nodule_encoder" and target != "embedded":
                continue
            for code in sorted((templates / model / "1").glob("*.py")):
                shutil.copyfile(code, version / code.name)
    with resources.as_file(resources.files("noduleserve.preprocessing")) as preprocessing:
        vendored = repository / "nodule_preprocess" / "1" / "preprocessing"
        vendored.mkdir()
        for code in sorted(preprocessing.glob("*.py")):
            shutil.copyfile(code, vendored / code.name)
    write_configuration(repository, facts, embedding, target)


def write_configuration(
    repository: Path, facts: dict[str, Any], embedding: int, target: str, models: Sequence[str] = MODELS
) -> None:
    """Write config.pbtxt of each of the models, and the label files, in place of those that are there."""
    names = {
        "max_batch": MAX_BATCH,
        "folds": facts["folds"],
        "embedding": embedding,
        "semantic": len(facts["labels"]),
        # JSON inside a string of the configuration's text format: escape backslashes and quotes
        "facts": json.dumps(facts).replace("\\", "\\\\").replace('"', '\\"'),
    }
    with resources.as_file(resources.files("noduleserve.model_repository")) as templates:
        for model in models:
            suffix = f".{target}" if model == "nodule_encoder" else ""
            template = Template((templates / model / f"config.pbtxt{suffix}.template").read_text())
            (repository / model / "config.pbtxt").write_text(template.substitute(names))
    for model in LABELLED:
        (repository / model / LABELS).write_text("\n".join(facts["labels"]) + "\n")
