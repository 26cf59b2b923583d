"""Where the encoder of a release lies that can be run in this process."""

from __future__ import annotations

from pathlib import Path

from noduleserve.errors import ReleaseError
from noduleserve.release import Release


def encoder_folder(release: Release) -> Path:
    """nodule_encoder/1 of a release of target `embedded`.

    Raises:
        ReleaseError: TARGET_OTHER.
    """
    if release.manifest["target"] != "embedded":
        raise ReleaseError(
            "TARGET_OTHER",
            f"The release's target is {release.manifest['target']}; this benchmark runs encoders of target embedded.",
            "Name a release of target embedded.",
        )
    return release.repository / "nodule_encoder" / "1"
