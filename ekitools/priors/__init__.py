"""Priors: Gaussian, independent marginals, random fields on grids and on graphs."""

from ekitools._public import face

__getattr__ = face(__name__)
