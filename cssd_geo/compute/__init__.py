"""What the network computes with on this machine: compiled loops, products, threads, a GPU."""
