"""Accuracy of one Kalman analysis if the noise is small compared with the spread.

    python benchmarks/kalman_accuracy.py [--no-times]

The reference is exact: rational numbers from the same floating-point inputs. The first table has
the largest error of a member, relative to the largest anomaly of the ensemble, for ratios of noise
sd to spread from 1e-2 to 1e-12. "data" is the analysis in data space (d < J), and "members" the
analysis in member space (d > J). "observed" is a linear model of all parameters. "offset" is the
same model with data that no member can fit. In "unobserved" some parameters do not enter the model.
The model itself rounds the outputs of "unobserved", by eps / ratio noise standard deviations, and
the exact analysis of the rounded outputs moves the unobserved parameters by this amount. In double
precision no method can have a smaller error than eps / ratio there.

The second table has the milliseconds of one analysis for moderate and for small noise.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import Any

import numpy as np
from timing import timed

import ekitools as ek

RATIOS = [2.0**-k for k in (7, 13, 20, 27, 33, 40)]
"""About 1e-2, 1e-4, 1e-6, 1e-8, 1e-10 and 1e-12; the noise sd is then exact."""


def rational(a) -> np.ndarray:
    """The same numbers as fractions."""
    return np.vectorize(Fraction, otypes=[object])(np.asarray(a, dtype=np.float64))


def solved(a, b) -> np.ndarray:
    """The solution of A x = b for a positive definite A, by elimination."""
    a, b = a.copy(), b.copy()
    for k in range(len(a)):
        factors = a[k + 1 :, k] / a[k, k]
        a[k + 1 :, k:] -= factors[:, None] * a[k, k:]
        b[k + 1 :] -= factors[:, None] * b[k]
    for k in reversed(range(len(a))):
        b[k] = (b[k] - a[k, k + 1 :] @ b[k + 1 :]) / a[k, k]
    return b


def exact(u, g, y, sd, draw) -> np.ndarray:
    """The analysis in rational numbers, in the smaller of J and d."""
    u, g, y, draw = (rational(a) for a in (u, g, y, draw))
    n, sd = len(u), Fraction(sd)
    e, f, innovation = u - u.sum(0) / n, (g - g.sum(0) / n) / sd, (y + draw - g) / sd
    if g.shape[1] < n:
        system = f.T @ f + (n - 1) * np.eye(g.shape[1], dtype=int)
        return u + solved(system, innovation.T).T @ (f.T @ e)
    system = f @ f.T + (n - 1) * np.eye(n, dtype=int)
    return u + innovation @ f.T @ solved(system, e)


def case(kind, ratio, n, d, seed=0) -> tuple[Any, ...]:
    """Ensemble, outputs, data, noise sd and draws."""
    rng = np.random.default_rng(seed)
    u, matrix, truth = rng.normal(size=(n, 4)), rng.normal(size=(4, d)), rng.normal(size=4) / 2
    if kind == "unobserved":
        matrix[2:] = 0
    y = truth @ matrix + ratio * rng.normal(size=d)
    if kind == "offset":
        y += rng.normal(size=d)
    return u, u @ matrix, y, ratio, ratio * rng.normal(size=(n, d))


def error(kind, ratio, n, d, dtype=np.float64) -> float:
    """The largest error of a member beside the largest anomaly."""
    u, g, y, sd, draw = case(kind, ratio, n, d)
    u, g, y, draw = (a.astype(dtype) for a in (u, g, y, draw))
    new = ek.kalman_update(u, g, y, sd**2, noise_draw=draw)
    difference = np.abs(rational(new) - exact(u, g, y, sd, draw)).max()
    return float(difference) / float(np.abs(u - u.mean(0)).max())


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-times", action="store_true", help="accuracy alone")
    options = parser.parse_args()
    kinds = ("observed", "offset", "unobserved")
    print(f"{'':>12}" + "".join(f"{kind:>22}" for kind in kinds) + f"{'float32 observed':>22}")
    print(f"{'sd / spread':>12}" + f"{'data':>11}{'members':>11}" * 4)
    for ratio in RATIOS:
        cells = [error(kind, ratio, 12, d) for kind in kinds for d in (7, 30)]
        cells += [error("observed", ratio, 12, d, np.float32) for d in (7, 30)]
        print(f"{ratio:12.1e}" + "".join(f"{cell:11.1e}" for cell in cells), flush=True)
    if options.no_times:
        return
    print(f"\n{'(J, d)':>14}{'harmless ms':>13}{'small ms':>10}{'ratio':>7}")
    for n, d in ((100, 20), (500, 100), (500, 400), (100, 2_000), (100, 50_000), (500, 5_000)):
        updates = []
        for ratio in (1.0, 1e-6):
            u, g, y, sd, draw = case("observed", ratio, n, d)
            updates.append(
                lambda u=u, g=g, y=y, sd=sd, draw=draw: ek.kalman_update(
                    u, g, y, sd**2, noise_draw=draw
                )
            )
        harmless, small = timed(updates, 5)
        print(
            f"{(n, d)!s:>14}{1e3 * harmless:13.2f}{1e3 * small:10.2f}{small / harmless:7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
