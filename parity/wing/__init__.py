"""A wing in this process: its Trainer, and how it is loaded and shared."""
