"""The list of a session's sources: what is read, waits, failed, has changed or is gone."""
