"""The devices, free ports, addresses and names of this machine."""
