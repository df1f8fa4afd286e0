"""How long properties are tried: the same examples every time, or new and more ones with HYPOTHESIS_PROFILE=long."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", derandomize=True, database=None, deadline=None, max_examples=100, suppress_health_check=CHECKS)
settings.register_profile("long", print_blob=True, database=None, deadline=None, max_examples=3000, suppress_health_check=CHECKS)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
