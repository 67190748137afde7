"""What will be read: files are counted, shown and chosen before a reading begins."""
