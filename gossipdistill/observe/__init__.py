"""Output for people: event files, live progress, summaries, tables and drawings."""
