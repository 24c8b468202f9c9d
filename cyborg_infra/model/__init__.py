"""The hub: frozen data and laws, no I/O. Every room imports it; it imports none of them."""
