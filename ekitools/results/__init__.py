"""Results: the history as arrays, the labelled Dataset, and what is read from it."""

from ekitools._public import face

__getattr__ = face(__name__)
