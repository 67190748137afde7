"""“Settings”: what is kept, where, and the form for it."""
