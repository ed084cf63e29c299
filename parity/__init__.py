"""What the two wings must agree on, and the checks that they do; importing it does nothing."""
