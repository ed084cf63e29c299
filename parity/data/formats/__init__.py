"""The formats that data sets come in: a reader each, which trusts no file."""
