"""One module per command of `launch.py`."""
