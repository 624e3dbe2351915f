"""Forward models and their evaluation with any executor."""

from ekitools._public import face

__getattr__ = face(__name__)
