"""What samples and labels are: types of numbers, shapes, and the columns of a table that they are made of."""
