"""Forward models, and their evaluation by any executor."""
