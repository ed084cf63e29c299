"""The wheel, installed and used as a user does."""
