"""Run records: commit, versions, hardware, and no path of the machine."""

import json
import subprocess
import sys
from importlib import metadata

import repository_checks

from lib import runtime
from lib.provenance import hardware, run_record
from lib.training import choose_precision


def test_a_run_record_says_what_a_number_needs():
    record = run_record({"epochs": 3, "blocks": [2, -1]})
    assert record["parameters"] == {"epochs": 3, "blocks": [2, -1]}
    assert record["packages"]["torch"] == metadata.version("torch") and "timm" in record["packages"]
    assert record["python"] == ".".join(map(str, sys.version_info[:3])) and record["hardware"]
    commit = record["commit"].removesuffix("-dirty")
    heads = subprocess.run(
        ["git", "rev-parse", "HEAD", f"{commit}^{{commit}}"],
        cwd=runtime.REPO_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if heads.returncode == 0:
        assert len(set(heads.stdout.split())) == 1
    else:
        assert commit == "no git checkout"
    assert not repository_checks.MACHINE_PATH.search(json.dumps(record))


def test_a_run_record_needs_no_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_record({})["commit"] == "no git checkout"


def test_hardware_says_whether_the_cpu_trains_in_bf16(monkeypatch):
    monkeypatch.delenv("SIAMMAE_PRECISION", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert hardware().endswith(", bf16") == (choose_precision() == "bf16")
