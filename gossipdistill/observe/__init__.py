"""What people see: event files, live progress, summaries, tables and drawings."""
