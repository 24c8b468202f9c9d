"""Values to lines for people on a terminal."""
