"""Folders that change after they were read: what is new, changed or gone, and the stream that follows from it."""
