"""Priors: Gaussian, independent marginals, random fields on grids and on graphs."""
