"""The checks. Each module holds the functions of one group; a group runs in a process of its own."""
