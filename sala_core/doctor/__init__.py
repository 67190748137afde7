"""The self-check: what this machine, this card and this model compute, as one report without private words."""

from sala_core.doctor.groups import chosen_groups
from sala_core.doctor.records import CheckDone, CheckStarted, Examination, Outcome, ReportWritten
from sala_core.doctor.report import summary
from sala_core.doctor.run import default_report, examine

__all__ = [
    "CheckDone",
    "CheckStarted",
    "Examination",
    "Outcome",
    "ReportWritten",
    "chosen_groups",
    "default_report",
    "examine",
    "summary",
]
