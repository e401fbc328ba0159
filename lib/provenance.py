"""What a number needs to be trusted later: on what it was computed, and with which code."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from lib.runtime import REPO_ROOT


def hardware() -> str:
    """The device in words, for tables: the GPU's name; or the CPU's, its cores, and bf16 where it computes in that."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    bf16 = ", bf16" if {"avx512_bf16", "amx_tile"} & set(text.split()) else ""
    return f"{(names or [platform.processor() or platform.machine()])[0]}, {os.cpu_count()} cores{bf16}"


def run_record(parameters: dict) -> dict:
    """What a number needs to be trusted later: parameters, commit, package versions, hardware."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    packages = ["torch", "torchvision", "timm", "numpy", "accelerate"]
    return {
        "parameters": parameters,
        "commit": commit or "no git checkout",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "hardware": hardware(),
    }
