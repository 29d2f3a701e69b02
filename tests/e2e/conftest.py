"""What end-to-end tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_cli import Shell


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """A shell in an empty folder, outside GitHub, with locks of its own."""
    (tmp_path / "work").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    before = signal.getsignal(signal.SIGTERM)
    yield Shell(tmp_path / "work", monkeypatch, capsys)
    signal.signal(signal.SIGTERM, before)
