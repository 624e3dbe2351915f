"""Checks of a part of your own: a method, a prior, a noise model, a model or a step rule.

Each function takes an object and tries every promise of its contract in `ekitools.typing`. It
returns None, or raises an AssertionError with a sentence that names the broken promise and says
what to do. Call it in a test of your own.
"""

from __future__ import annotations

from ekitools.testing.methods import check_method
from ekitools.testing.models import check_model
from ekitools.testing.noises import check_noise
from ekitools.testing.priors import check_prior
from ekitools.testing.schedules import check_schedule

__all__ = ["check_method", "check_model", "check_noise", "check_prior", "check_schedule"]
