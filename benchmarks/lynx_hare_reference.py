"""The exact posterior of the lynx-hare problem with σ = 0.25 fixed, by brute force.

    python benchmarks/lynx_hare_reference.py [--write]

A random-walk Metropolis sampler in the coordinates in which the prior is N(0, I), many chains
at once (the model is vectorized), started at draws of a refined ensemble. Prints mean,
standard deviation and the Monte-Carlo error of the mean in standard deviations, the potential
scale reduction, and for comparison the published posterior with σ unknown. `--write` stores them in
the package. The script takes about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import ekitools as ek

CHAINS, WARM_UP, STEPS = 400, 1500, 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    problem = ek.problems.lynx_hare(sigma=0.25).problem
    prior = problem.prior
    rng = np.random.default_rng(0)
    start = ek.run(problem, ek.GNKI(), n_members=CHAINS, rng=1).u[-1].values
    z = prior.to_unconstrained(start)
    root = 2.38 / np.sqrt(z.shape[1]) * np.linalg.cholesky(np.cov(z.T))

    def log_density(z) -> np.ndarray:
        g = problem.model(prior.to_physical(z))
        misfit = problem.noise.misfit(g, problem.data)
        return np.where(np.isfinite(misfit), -misfit - 0.5 * (z**2).sum(1), -np.inf)

    density, kept, accepted = log_density(z), [], 0.0
    for step in range(WARM_UP + STEPS):
        proposal = z + rng.standard_normal(z.shape) @ root.T
        proposed = log_density(proposal)
        accept = np.log(rng.random(CHAINS)) < proposed - density
        z, density = np.where(accept[:, None], proposal, z), np.where(accept, proposed, density)
        accepted += accept.mean() / (WARM_UP + STEPS)
        if step >= WARM_UP and step % 5 == 0:
            kept.append(prior.to_physical(z))
    chains = np.array(kept)  # (draws, chains, p)
    mean, sd = chains.mean((0, 1)), chains.std((0, 1))
    per_chain = chains.mean(0)
    error = per_chain.std(0, ddof=1) / np.sqrt(CHAINS) / sd
    within = chains.var(0, ddof=1).mean(0)
    reduction = np.sqrt(1 - 1 / len(chains) + per_chain.var(0, ddof=1) / within)
    print(f"{CHAINS} chains of {STEPS} steps, {100 * accepted:.0f} % accepted")
    names = prior.names
    path = Path(ek.problems.__file__).parent / "data" / "lynx-hare-reference.json"
    stored = json.loads(path.read_text())
    published = stored["unknown_sigma"]["posterior"]
    for i, name in enumerate(names):
        print(
            f"{name:>6} {mean[i]:10.5g} ± {sd[i]:<10.4g} error {error[i]:.3f} sd, "
            f"scale reduction {reduction[i]:.4f}; sigma unknown: {published[name]}"
        )
    if write:
        stored["fixed_sigma"] = {
            "origin": f"benchmarks/lynx_hare_reference.py, {CHAINS} Metropolis chains of {STEPS} "
            f"steps, Monte-Carlo error of the means at most {error.max():.1g} standard deviations",
            "posterior": {
                n: [float(f"{m:.5g}"), float(f"{s:.4g}")]
                for n, m, s in zip(names, mean, sd, strict=True)
            },
        }
        path.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
