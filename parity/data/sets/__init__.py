"""The data sets: a file each, which declares an `Entry` called DATASET and how it is read."""
