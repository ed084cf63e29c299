"""What a pass computes, recorded, and where two recordings part: the ground of every comparison."""
