"""Tempered sequential Monte Carlo, and the tools that only it uses."""
