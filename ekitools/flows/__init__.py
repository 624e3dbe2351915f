"""Flows in continuous time: right-hand sides, and two ways to carry them through time."""

from ekitools._public import face

__getattr__ = face(__name__)
