"""The contracts between the library and the files of choices: a frozen dataclass for each folder.

A field of the dataclass is a public name that a file of the folder may define; the registry builds the instance from
the file and refuses every other public name. The table of names in docs/extending.md is made from these classes.
"""
