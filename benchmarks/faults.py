"""Runs the whole fault suite and counts what it injected; what the record says besides of attacks
from outside stays."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from common import RESULTS, record

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Writes a line for every test."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        marks = ["-m", "slow or not slow", *sys.argv[1:]]
        command = [sys.executable, "-m", "pytest", "tests/faults", f"--junitxml={report}", *marks]
        subprocess.run(command, cwd=ROOT, check=False)
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    lines = ["| test | outcome | injected |", "|---|---|---|"]
    for case in cases:
        failed = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        injected = ", ".join(f"{p.get('value')} {p.get('name')}" for p in case.iter("property"))
        outcome = failed[0] if failed else "passed"
        lines.append(f"| {case.get('name')} | {outcome} | {injected} |")
    before = (RESULTS / "faults.md").read_text()
    beside = before[before.index("\n## ") :].rstrip() if "\n## " in before else ""
    record("faults", "The fault suite", "\n".join([*lines, beside]))


if __name__ == "__main__":
    main()
