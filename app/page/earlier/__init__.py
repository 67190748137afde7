"""Long conversations: the page holds their end, and fetches earlier turns when they are asked for."""
