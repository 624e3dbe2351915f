"""A result for people: the summary, the HTML page, the notebook's view."""

from ekitools._public import face

__getattr__ = face(__name__)
