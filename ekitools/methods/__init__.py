"""One file, one algorithm. Methods do not import each other."""
