"""Engines elsewhere: servers that write the answers of sessions whose texts and conversations stay here."""
