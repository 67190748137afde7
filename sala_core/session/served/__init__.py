"""Conversations that other programs send: as a whole with every request, or on a session. No state is read twice."""
