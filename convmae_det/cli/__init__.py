"""The command `convmae-det`: main.py is its front door, and each command a module, which reads its arguments."""
