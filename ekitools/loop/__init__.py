"""The discrete loop: ask, evaluate, tell, record, save."""

from ekitools._public import face

__getattr__ = face(__name__)
