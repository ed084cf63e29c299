"""Trained networks, each a file of weights with a card; `load_pretrained` of a wing reads them."""
