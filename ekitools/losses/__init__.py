"""Losses and observation noise: Ψ(G(u), y), and Γ if the loss is Gaussian."""

from ekitools._public import face

__getattr__ = face(__name__)
