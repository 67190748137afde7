"""All tasks of all suites, for parametrized tests."""

from sala_core.evals.run import SUITES

TASKS = [(suite, task) for suite, tasks in SUITES.items() for task in tasks]


def task_named(name):
    """(suite, task) of the task with this name."""
    return next((suite, task) for suite, task in TASKS if task.name == name)
