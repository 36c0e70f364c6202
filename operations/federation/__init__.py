"""The commands of a federation: of a site, of its coordinator, and a demo of both on one machine."""
