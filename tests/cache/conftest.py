"""Made-up commits for the tests of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def commits() -> ModuleType:
    """The module `commits.py` beside this file."""
    spec = importlib.util.spec_from_file_location("commits", Path(__file__).with_name("commits.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
