"""Pages of a result: the summary, the HTML report, the notebook's view."""
