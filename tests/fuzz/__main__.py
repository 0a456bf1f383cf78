"""libFuzzer on the targets, by atheris: `python -m tests.fuzz [--seconds N] [--folder DIR] [NAME...]`.

Each target runs in a process of its own, for its share of the time. What it found lies in the folder: the
corpus, and a file `crash-...` (or `timeout-...`, `oom-...`) for each fault. Exit status 1 when there is one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import warnings
from pathlib import Path

SECONDS_AN_INPUT = 20
MEMORY_MIB = 1500
LARGEST = 1 << 16
INSTRUMENTED = (
    *(f"pacs_node.{name}" for name in (
        "anatomy", "codestream", "colour", "commandset", "commitment", "decode", "facts", "geometry",
        "header", "lookup", "matching", "multipart", "normalized", "outline", "overlays", "pictures",
        "provenance", "pull_dimse", "pull_web", "reading",
    )),
    "config.load", "config.checks", "webui.archive", "webui.content", "webui.dicomweb", "webui.multipart",
    "pydicom.filereader", "pydicom.values", "zipfile",
)  # fmt: skip
"""What leads libFuzzer: our parsers, and what they call first."""


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Fuzz one target in this process; it ends with libFuzzer's own exit status."""
    import atheris  # type: ignore[import-untyped, unused-ignore]

    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = folder / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}", f"-timeout={SECONDS_AN_INPUT}", f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={LARGEST}", f"-artifact_prefix={folder / name}/", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.run)
    atheris.Fuzz()


def one_after_another(names: list[str], folder: Path, seconds: int) -> int:
    """Fuzz each target for its share of the time; returns the number of those with a fault."""
    faults = 0
    for name in names:
        share = max(1, seconds // len(names))
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", "--alone", "--seconds", str(share),
             "--folder", str(folder), name],
            capture_output=True,
            text=True,
            errors="replace",
        )  # fmt: skip
        tried = re.search(r"number_of_executed_units:\s+(\d+)", done.stderr)
        peak = re.search(r"peak_rss_mb:\s+(\d+)", done.stderr)
        found = sorted(path.name for path in (folder / name).glob("*-*") if path.is_file())
        many, most = int(tried[1]) if tried else 0, peak[1] if peak else "?"
        came = "no fault" if done.returncode == 0 else ", ".join(found) or "it ended badly"
        print(f"{name}: {many:,} inputs in {share} s, peak {most} MiB, {came}", flush=True)
        if done.returncode:
            faults += 1
            print(done.stderr[-3000:], file=sys.stderr)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz what parses something from outside.")
    parser.add_argument("names", nargs="*", help="targets; all of them without")
    parser.add_argument("--seconds", type=int, default=3600, help="time for all of them together")
    parser.add_argument("--folder", type=Path, default=Path("var/fuzz"))
    parser.add_argument("--alone", action="store_true", help="in this process, one target")
    given = parser.parse_args()
    if given.alone:
        fuzz(given.names[0], given.folder, given.seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    return min(1, one_after_another(given.names or list(TARGETS), given.folder, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
