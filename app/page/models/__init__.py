"""“Models”: what is active, what is here, what can be had, and what fits this machine."""
