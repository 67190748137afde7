"""What `read` does before a reading."""
