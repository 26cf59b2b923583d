"""MANIFEST.json against its schema, manifest.schema.json."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema

from .errors import ReleaseError


def schema() -> dict[str, Any]:
    """The JSON schema of MANIFEST.json."""
    return json.loads(resources.files("noduleserve").joinpath("manifest.schema.json").read_text())


def check_schema(manifest: dict[str, Any]) -> None:
    """Hold a manifest against its schema.

    Raises:
        ReleaseError: MANIFEST_INVALID.
    """
    errors = jsonschema.Draft202012Validator(schema()).iter_errors(manifest)
    if error := jsonschema.exceptions.best_match(errors):
        raise ReleaseError(
            "MANIFEST_INVALID",
            f"MANIFEST.json is not as its schema says, at {error.json_path}: {error.message[:200]}.",
            "Export the release again.",
        )
