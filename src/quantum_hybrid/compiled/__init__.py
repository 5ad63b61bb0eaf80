"""What all compiled code shares: vectors, threads, machine code on disk."""
