"""The discrete loop: ask, evaluate, tell, record, save."""
