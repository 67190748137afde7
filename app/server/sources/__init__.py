"""The routes of the source viewer."""
