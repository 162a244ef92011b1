"""Which code is at hand, for the model card."""

import subprocess


def code_revision() -> str:
    """The commit of the working directory's checkout, or `unknown` outside one."""
    try:
        command = ["git", "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
