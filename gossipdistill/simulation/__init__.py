"""The same run in virtual time, in one process."""
