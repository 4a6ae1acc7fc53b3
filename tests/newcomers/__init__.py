"""What newcomers did that went wrong: one file for each line of a list, and each stands for its kind."""
