"""The tools that everything else stands on: arrays, checks, errors, options, statuses."""
