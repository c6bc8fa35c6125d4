"""What holds for every test that draws its input."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long a draw or an example takes says something about the machine, and nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
