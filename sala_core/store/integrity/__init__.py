"""What keeps the library sound: checksums of rows, records of sessions, copies of the database, checks and repair."""
