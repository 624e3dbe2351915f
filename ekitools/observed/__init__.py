"""Data as they come: blocks with names, labels and gaps, and the vector y that is made of them."""
