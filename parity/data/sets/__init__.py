"""The data sets: a file each, with an `Entry` called DATASET."""
