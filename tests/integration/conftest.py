"""Catalogs for the integration tests."""

from pathlib import Path

import pytest


@pytest.fixture
def fake_models(tmp_path: Path) -> Path:
    """A catalog of the engine that needs no torch: starts in a moment."""
    path = tmp_path / "models.toml"
    path.write_text(
        """
        [[model]]
        id = "fake-text"
        engine = "fake"
        modality = "text"
        default = true
        preload = true
        """
    )
    return path
