"""Images in tar files, read at random as if they were files of their own."""
