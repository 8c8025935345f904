"""Speed and memory of this project's networks, of plain forms of them, and of peers."""
