"""The verb `predict`, and how a picture becomes an image of a network."""
