"""A wing in this process: what is asked of its Trainer, and how it is loaded and shared."""
