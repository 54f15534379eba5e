"""Typed methods over Redis or Valkey. Knows keys and scripts, no policy."""
