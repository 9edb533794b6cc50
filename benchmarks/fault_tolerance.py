"""Trainings that are killed at random moments, against one that is not.

    python -m benchmarks.fault_tolerance [--kills N] [--json FILE]

A model with all sorts of state (random features, dropout, a balanced router,
Adam) is trained once undisturbed, then again and again in processes that are
killed by SIGKILL and begin where the last checkpoint is, each with another
random seed. A kill counts as resumed if the losses after it are, bit by bit,
those of the undisturbed training. About ten seconds a kill.
"""

import argparse
import pathlib
import tempfile

from benchmarks.g2p_quality import RESULTS
from benchmarks.kills import kill_and_resume
from benchmarks.report import Report


def main() -> None:
    """Kills, and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=22)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_resume(options.kills, pathlib.Path(folder) / "new")
    report = Report("Trainings that are killed")
    resumes = found.pop("kill_resumes")
    unreadable = found.pop("unreadable_checkpoints")
    report.add_figures(found)
    report.add_claim("kill_resumes", resumes, options.kills, "==")
    report.add_claim("unreadable_checkpoints", unreadable, 0, "==")
    report.show()
    report.write(options.json or RESULTS / "fault_tolerance.json")


if __name__ == "__main__":
    main()
