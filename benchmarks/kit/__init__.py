"""What several benchmarks share: processes, plans, time series, verdicts, machines of namespaces."""
