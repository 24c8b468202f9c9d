"""Read the files in which other tools say which streams and consumers there are."""
