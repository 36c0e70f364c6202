"""Published advisories that concern pinned packages: known ones, news, and a tracking issue; docs/security.md."""
