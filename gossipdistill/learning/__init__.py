"""What strategies are made of: the learner they act on, snapshots, soft targets, averages. No network in here."""
