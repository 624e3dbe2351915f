"""Losses and observation noise: Ψ(G(u), y), and Γ where the loss is Gaussian."""
