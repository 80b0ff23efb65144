"""Ask pip-audit whether an installed package has a known hole; say so where that cannot be asked.

    python scripts/audit.py

Exit code 0: none known. 1: some, listed. 2: not asked (no pip-audit, or no network): that is no
clean bill.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

REFUSED = {"lightning": ("2.6.2", "2.6.3")}
"""Releases that were malicious uploads (GHSA-w37p-236h-pfx3)."""


def malicious() -> list[str]:
    """Installed releases that are known to be malicious, without asking anyone."""
    found = []
    for name, versions in REFUSED.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        if installed in versions:
            found.append(f"{name} {installed} was a malicious upload")
    spec = find_spec("lightning")
    if spec is not None and spec.origin and (Path(spec.origin).parent / "_runtime").exists():
        found.append("lightning holds a folder _runtime, the mark of the malicious upload")
    return found


def main() -> int:
    """Command line; the exit code."""
    if found := malicious():
        print("\n".join(found))
        return 1
    if find_spec("pip_audit") is None:
        print("not asked: pip-audit is not installed (python -m pip install pip-audit)")
        return 2
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (done.stderr.strip() or done.stdout.strip() or "no answer").splitlines()[-1]
        print(f"not asked: pip-audit gave no answer ({reason[:200]})")
        return 2
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in "
        f"{', '.join(hole['fix_versions']) or 'no release'}"
        for package in packages
        for hole in package.get("vulns", [])
    ]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        # pip-audit calls this "no known vulnerabilities" and ends with 0.
        print(f"not asked: nothing is known here about any of the {len(packages)} packages")
        return 2
    print("\n".join(holes) or "no known holes")
    print(f"asked about {len(packages) - len(skipped)} packages, not about {len(skipped)}:")
    print(", ".join(skipped) or "none")
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())
