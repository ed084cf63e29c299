"""What a network says of pictures."""
