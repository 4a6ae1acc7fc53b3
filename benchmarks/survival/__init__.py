"""Faults, and how far training gets, beside other products."""
