"""A page that shows what a network sees: drawn digits, capsules, couplings, reconstructions."""
