"""Results: the history as arrays, the labelled Dataset, and what is read from it."""
