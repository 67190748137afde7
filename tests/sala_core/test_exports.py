"""`from sala_core import ...`: every exported name loads on first use, and is the one that its module defines."""

import importlib

import pytest

import sala_core


@pytest.mark.parametrize("name", sala_core.__all__)
def test_an_exported_name_is_its_modules(name):
    module = importlib.import_module(sala_core._EXPORTS[name])
    assert getattr(sala_core, name) is getattr(module, name)
    assert getattr(module, name).__module__ == module.__name__


def test_exactly_the_exported_names_are_listed():
    assert set(sala_core._EXPORTS) == set(sala_core.__all__)
    assert set(sala_core.__all__) <= set(dir(sala_core))


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'sala_core' has no attribute 'nothing'"):
        sala_core.nothing  # noqa: B018
