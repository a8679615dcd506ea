"""Whether a cache of a frozen backbone's features pays, before it is there."""
