"""Ensemble algebra: one Kalman analysis, and products with the anomalies of an ensemble."""

from __future__ import annotations

from ekitools.linalg.gram import solve_spd
from ekitools.linalg.kalman import kalman_update
from ekitools.linalg.products import (
    anomaly_products,
    combine_anomalies,
    covariance_product,
    d_norm,
    frobenius,
    gaussian_draws,
    moved,
    total_variance,
)

__all__ = [
    "anomaly_products",
    "combine_anomalies",
    "covariance_product",
    "d_norm",
    "frobenius",
    "gaussian_draws",
    "kalman_update",
    "moved",
    "solve_spd",
    "total_variance",
]
