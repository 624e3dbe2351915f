"""Checks of a part of your own: a method, a prior, a noise model, a model or a step rule."""

from __future__ import annotations

__all__: list[str] = []
