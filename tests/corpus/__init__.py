"""Configs as other people write them, through every command."""
