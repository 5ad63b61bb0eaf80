"""What all arms of a study read: its text, the healed backbone, and the hidden states."""
