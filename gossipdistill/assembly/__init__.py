"""What a worker process and a simulated peer share: from a specification to a worker, and from it to its result."""
