"""The local web server: the routes, the guard in front of them, and uploads."""
