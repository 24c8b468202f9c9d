"""Values -> files of other tools: one module and one row of FORMATS for each."""
