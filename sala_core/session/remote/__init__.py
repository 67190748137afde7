"""Answers of engines elsewhere: what they are given of a session, and how their turns are stored."""
