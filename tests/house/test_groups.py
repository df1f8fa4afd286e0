"""Tests that share a server or a deployment run in one worker: the runner's two halves must agree on how that is said."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("house-groups")
def test_a_group_is_known_to_those_who_hand_out_tests(request: pytest.FixtureRequest):
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@house-groups"), "these releases of pytest and pytest-xdist do not fit together"
