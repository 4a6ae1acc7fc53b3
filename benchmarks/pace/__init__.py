"""The pace of a run beside a straggler."""
