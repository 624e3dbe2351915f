"""Observed data: blocks with names, labels and gaps, and the data vector y."""
