"""Forward models, and their evaluation by any executor."""

from ekitools._public import face

__getattr__ = face(__name__)
