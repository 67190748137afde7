"""Office documents to text, by the standard library alone. Here is what their formats share."""
