"""h2load is asked where it is installed, and missed where it is not."""

import shutil
import stat
from pathlib import Path

import pytest

from bench.h2load import calls_s

PROGRAM = """\
#!/bin/sh
for word in "$@"; do case $word in -d*) grep -q snow "${word#-d}" || exit 1;; esac; done
echo 'finished in 3.00s, 1250.50 req/s, 299.37KB/s'
"""


def test_where_it_is_not_installed_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert calls_s("http://127.0.0.1:1/a/b", [b"snow"], 4, 1) is None


def test_processes_add_up_and_a_failure_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "h2load"
    program.write_text(PROGRAM)
    program.chmod(stat.S_IRWXU)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))
    assert calls_s("http://127.0.0.1:1/a/b", [b"snow", b"more snow"], 4, 1) == 2501.0
    with pytest.raises(RuntimeError, match="h2load failed"):
        calls_s("http://127.0.0.1:1/a/b", [b"snow", b"rain"], 4, 1)
