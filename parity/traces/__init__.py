"""What a pass computes, recorded, and the first tensor in which two recordings differ."""
