from tests.registry_workspace import small_data, workspace  # noqa: F401
