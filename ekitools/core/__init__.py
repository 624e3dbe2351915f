"""Tools of the lowest floor: arrays, checks, errors, options, statuses."""
