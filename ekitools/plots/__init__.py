"""Pictures of results, one kind a file; matplotlib is imported when one is drawn."""

from ekitools._public import face

__getattr__ = face(__name__)
