"""What this machine offers: devices, free ports, its addresses and names."""
