"""Where a data set's files come from: mirrors, packages, your own folders."""
