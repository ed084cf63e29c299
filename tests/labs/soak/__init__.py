"""Long runs: memory and open files, step by step."""
