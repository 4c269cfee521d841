"""Reference calculations with CP2K: works through a dataset's queue and puts the results into the dataset."""
