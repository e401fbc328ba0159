"""Only for Google Colab: install what the machine lacks, and nothing that it has. Standard library only."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path


def missing_requirements(requirements: Path) -> list[str]:
    """Lines of a requirements file whose package is not installed at all; versions at hand are left alone."""
    lines = (line.split("#")[0].strip() for line in requirements.read_text().splitlines())
    missing = []
    for line in filter(None, lines):
        try:
            metadata.version(re.match(r"[A-Za-z0-9._-]+", line).group())
        except metadata.PackageNotFoundError:
            missing.append(line)
    return missing


def install_missing(requirements: Path) -> list[str]:
    """Install the missing packages with pip, quietly; returns their requirement lines."""
    missing = missing_requirements(requirements)
    if missing:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
    return missing
