"""A doctor for data: reads all of a data set before training, and says what is wrong with it (`convmae-det check`)."""
