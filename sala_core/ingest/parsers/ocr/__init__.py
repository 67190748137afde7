"""Text in pictures: scanned pages of PDF files, and picture files that a user adds themselves."""
