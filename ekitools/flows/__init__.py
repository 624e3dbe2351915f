"""Flows in continuous time: right-hand sides, and two integrators."""

from ekitools._public import face

__getattr__ = face(__name__)
