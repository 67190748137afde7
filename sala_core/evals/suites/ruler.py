"""The 13 tasks of RULER (arXiv:2404.06654) with templates of this project, scored by the paper's string rules."""

from sala_core.evals.records import Task
from sala_core.evals.scoring import match_all, match_part
from sala_core.evals.suites.ruler_needles import VARIANTS, needle_task
from sala_core.evals.suites.ruler_qa import one_hop, two_hop
from sala_core.evals.suites.ruler_tracking import variable_tracking
from sala_core.evals.suites.ruler_words import common_words, frequent_words

RULER = (
    *(needle_task(name) for name in VARIANTS),
    Task(name="vt", make=variable_tracking, score=match_all),
    Task(name="cwe", make=common_words, score=match_all, max_shared=1, evidence=False),
    Task(name="fwe", make=frequent_words, score=match_all, max_shared=1, evidence=False),
    Task(name="qa_1", make=one_hop, score=match_part),
    Task(name="qa_2", make=two_hop, score=match_part),
)
