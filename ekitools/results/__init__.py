"""Results: the history as arrays, the labelled Dataset, and its readers."""

from ekitools._public import face

__getattr__ = face(__name__)
