"""Which files below a path are read, in which order, and why others are not."""
