"""The server under load: this system and its rivals, closed loop, open loop, and the highest rate within a bound."""
