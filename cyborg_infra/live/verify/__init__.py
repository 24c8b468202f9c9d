"""The checks of `verify`: agents at work on a copy of the organisation."""
