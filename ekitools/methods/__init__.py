"""Methods: frozen options with pure functions of a state, and their rules and tools."""

from ekitools._public import face

__getattr__ = face(__name__)
