"""A result for people: the summary, the HTML page, the notebook's view."""
