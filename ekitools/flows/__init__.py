"""Flows in continuous time: right-hand sides, and two ways to carry them through time."""
