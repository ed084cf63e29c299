"""What a network says of pictures: the verb `predict`, and how a picture becomes an image."""
