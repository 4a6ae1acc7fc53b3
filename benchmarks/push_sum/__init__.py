"""What push-sum costs: a step, its kernels, memory."""
