"""One worker process: its start, its loop, its files and its end."""
