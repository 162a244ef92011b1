"""h2load is asked where it is installed, and missed where it is not."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import h2load
from bench.h2load import calls_s
from bench.servers import family

PROGRAM = """\
#!/bin/sh
for word in "$@"; do case $word in -d*) grep -q snow "${word#-d}" || exit 1;; esac; done
echo 'finished in 3.00s, 1250.50 req/s, 299.37KB/s'
"""


def test_where_it_is_not_installed_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert calls_s("http://127.0.0.1:1/a/b", [b"snow"], 4, 1) is None


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Makes a script be h2load."""

    def install(text: str) -> None:
        program = tmp_path / "h2load"
        program.write_text(text)
        program.chmod(stat.S_IRWXU)
        monkeypatch.setattr(shutil, "which", lambda _: str(program))

    return install


def test_processes_add_up_and_a_failure_is_an_error(install: Callable[[str], None]) -> None:
    install(PROGRAM)
    assert calls_s("http://127.0.0.1:1/a/b", [b"snow", b"more snow"], 4, 1) == 2501.0
    with pytest.raises(RuntimeError, match="h2load failed"):
        calls_s("http://127.0.0.1:1/a/b", [b"snow", b"rain"], 4, 1)


@pytest.mark.parametrize("status", [0, 1])
def test_a_rate_counts_only_of_a_process_that_ended_well(install: Callable[[str], None], status: int) -> None:
    install(f"#!/bin/sh\necho 'finished in 3.00s, 5.00 req/s, 1KB/s'\nexit {status}\n")
    if status == 0:
        assert calls_s("http://127.0.0.1:1/a/b", [b"snow"], 4, 1) == 5.0
    else:
        with pytest.raises(RuntimeError, match=r"h2load failed: finished in 3\.00s"):
            calls_s("http://127.0.0.1:1/a/b", [b"snow"], 4, 1)


def test_a_process_that_does_not_end_is_ended(
    install: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(h2load, "SPARE_SECONDS", 0)
    before = family(os.getpid())
    with pytest.raises(RuntimeError, match="did not end"):
        calls_s("http://127.0.0.1:1/a/b", [b"snow", b"rain"], 4, 0)
    assert set(family(os.getpid())) <= set(before)
