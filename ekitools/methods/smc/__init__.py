"""Tempered sequential Monte Carlo, and the tools that only it uses."""

from ekitools._public import face

__getattr__ = face(__name__)
