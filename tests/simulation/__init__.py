"""The parts of the simulator: a world of processes on one virtual clock, with a network, a store and a broker that fail."""
