"""The folder `.promptops/` of a project: private, ignored by git, with no links in it."""

from pathlib import Path

from promptops.core.errors import RefusedError
from promptops.project.config import STORE_FOLDER
from promptops.project.formats import FORMATS, format_text

FILE = "store.sqlite3"


def prepare_folder(root: Path) -> None:
    """`.promptops/` with its own .gitignore, and the schemas that editors complete from. Raises RefusedError for links in it."""
    folder = root / STORE_FOLDER
    ours = (".", FILE, ".gitignore", "locks", "schemas", *(f"schemas/{name}.schema.json" for name in FORMATS))
    for name in ours:
        if (folder / name).is_symlink():
            raise RefusedError("the run store is a symbolic link", where=(Path(STORE_FOLDER) / name).as_posix(),
                               hint="replace it by a real folder or file")  # fmt: skip
    folder.mkdir(mode=0o700, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", "utf-8")
    schemas = folder / "schemas"
    schemas.mkdir(exist_ok=True)
    for name in FORMATS:
        file = schemas / f"{name}.schema.json"
        text = format_text(name)
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")
