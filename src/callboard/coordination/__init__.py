"""Who is alive, and what they say of themselves: sessions and their entries."""
