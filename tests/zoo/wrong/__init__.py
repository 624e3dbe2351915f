"""Wrong arguments of every public callable: the table behind the sweep."""
