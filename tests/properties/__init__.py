"""Laws that hold for all values, tried on drawn ones."""
