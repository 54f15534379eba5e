"""Chaos on real processes: everything that can die, hang or be cut off does so at random, and then nothing may be missing."""
