"""One call that turns a problem into a posterior with a verdict: `ekitools.solve`."""

from ekitools._public import face

__getattr__ = face(__name__)
