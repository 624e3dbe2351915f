"""Published test accuracies of networks for images, by network and method.

The accuracies are those of [1]_. For convolutional networks it has one accuracy of EKI(R), which we
take as that of the mean.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and a talk on it.
"""

from __future__ import annotations

__all__ = ["CONVOLUTIONAL", "DENSE", "EKI_METHODS"]

EKI_METHODS = ("EKI", "MEKI", "EKI(R)", "MEKI(R)")
"""Ensemble Kalman inversion, with momentum (M) and with redrawn members (R)."""


def _dense() -> dict[str, dict[str, float]]:
    """Accuracies by part, from a table with a column for every network."""
    table = {
        "DNN 1": (0.9199, 0.9257, 0.9092, 0.9114, 0.9094, 0.9107, 0.9252, 0.9260, 0.9142, 0.9162),
        "DNN 2": (0.9735, 0.9807, 0.9398, 0.9416, 0.9320, 0.9332, 0.9721, 0.9695, 0.9509, 0.9511),
        "DNN 3": (0.9798, 0.9830, 0.9424, 0.9432, None, None, 0.9738, 0.9716, None, None),
        "DNN 4": (0.9818, 0.9840, 0.9404, 0.9418, None, None, 0.9741, 0.9691, None, None),
    }
    rows: dict[str, dict[str, float]] = {}
    keys = [("SGD", "test"), ("MSGD", "test")]
    keys += [(method, key) for method in EKI_METHODS for key in ("test", "best_test")]
    for network, column in table.items():
        for (method, key), value in zip(keys, column, strict=True):
            if value is not None:
                rows.setdefault(f"{network}, {method}", {})[key] = value
    return rows


DENSE = _dense()
"""Such as ``{"DNN 1, EKI": {"test": 0.9092, "best_test": 0.9114}}``: the mean, the best member."""
CONVOLUTIONAL = {
    "CNN-MNIST, SGD": {"test": 0.9878},
    "CNN-MNIST, MSGD": {"test": 0.9880},
    "CNN-MNIST, EKI(R)": {"test": 0.9912},
    "CNN-1, MSGD": {"test": 0.9150},
    "CNN-1, EKI(R)": {"test": 0.9249},
    "CNN-2, MSGD": {"test": 0.9324},
    "CNN-2, EKI(R)": {"test": 0.9353},
    "CNN-3, MSGD": {"test": 0.9414},
    "CNN-3, EKI(R)": {"test": 0.9299},
}
