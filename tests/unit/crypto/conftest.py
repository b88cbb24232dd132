"""Operators with their authorities, made once."""

import pytest

from tests.unit.crypto.authorities import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def other_world() -> World:
    """Another operator who took the same name: everything equal but the keys."""
    return make_world()


@pytest.fixture(scope="session")
def other_operator() -> World:
    return make_world("dul")
