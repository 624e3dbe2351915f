"""Results: the history as arrays, the labelled Dataset, and functions that read it."""

from ekitools._public import face

__getattr__ = face(__name__)
