"""Stage download: the data set's official files, checked against pinned sums, in data/raw."""
