"""Emulation of a model from its runs, and sampling of the posterior through the emulator."""

from ekitools._public import face

__getattr__ = face(__name__)
