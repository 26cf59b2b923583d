"""The scripted server that tests of the client's stream share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted_server import end_quickly, start_scripted


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a scripted server; see scripted_server."""
    process = start_scripted(tmp_path_factory.mktemp("scripted"))
    yield process.endpoints.address
    end_quickly(process)
