"""Names of the tasks, for tests that run over them."""

from sala_core.evals.run import SUITES

TASKS = [(suite, task) for suite, tasks in SUITES.items() for task in tasks]


def task_named(name):
    """(suite, task)."""
    return next((suite, task) for suite, task in TASKS if task.name == name)
