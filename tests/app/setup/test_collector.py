"""The garbage collector around imports and at the end of a process."""

import gc
import subprocess
import sys

import pytest

from app.setup import collector

KEPT = """
import gc, sys
from app.setup import collector

class Node:
    def __del__(self):
        print("collected", flush=True)

node = Node()
node.itself = node
del node
if "leave" in sys.argv:
    collector.leave_to_the_system()
"""


@pytest.fixture(autouse=True)
def unfrozen():
    yield
    gc.unfreeze()
    gc.enable()


def test_it_is_off_while_modules_are_imported_and_on_afterwards_even_after_an_error():
    with collector.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), collector.importing():
        raise ImportError
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_a_process_that_ends_searches_nothing(environment):
    for arguments, expected in (([], "collected\n"), (["leave"], "")):
        done = subprocess.run(
            [sys.executable, "-c", KEPT, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == expected


def test_a_package_that_is_left_out_can_be_imported_afterwards():
    sys.modules.pop("colorsys", None)
    with collector.without("colorsys"), pytest.raises(ImportError):
        import colorsys
    import colorsys

    with collector.without("colorsys"):
        import colorsys as again
    assert again is colorsys
    assert sys.modules["colorsys"] is colorsys
