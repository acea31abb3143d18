"""Counts the rooms of a package and the arrows between them: `bin/rooms.py [PACKAGE]`, by default stories.

A room is a module or folder directly inside the package; an arrow leads from one room to another that it imports. An
arrow back up closes a circle of rooms. Migrations, which Django writes, are no room. The figures of
docs/architecture.md come from here.
"""

import sys
from pathlib import Path

import grimp


def main(package: str) -> None:
    sys.path.insert(0, str(Path.cwd()))
    graph = grimp.build_graph(package, cache_dir=None)
    arrows = {
        (_room(importer, package), _room(imported, package))
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.startswith(f"{package}.")
    }
    arrows = {(a, b) for a, b in arrows if a != b and "" not in (a, b) and "migrations" not in (a, b)}
    rooms = sorted({_room(module, package) for module in graph.modules} - {"", "migrations"})
    lines = {room: _lines(Path.cwd() / package / room) for room in rooms}
    largest = max(lines, key=lambda room: lines[room])
    back_up = len(arrows) - len(arrows - {arrow for arrow in arrows if _reaches(arrow[1], arrow[0], arrows)})
    files = len(list((Path.cwd() / package).glob("*.py"))) - 1
    sys.stdout.write(
        f"{package}: {len(rooms)} rooms, {files} of them single files, {len(arrows)} arrows, {back_up} of them in a "
        f"circle; the largest room is {largest} ({lines[largest]} lines)\n"
    )


def _room(module: str, package: str) -> str:
    """The room that a module lies in; "" for the package itself."""
    return module.removeprefix(package).lstrip(".").split(".")[0]


def _reaches(start: str, goal: str, arrows: set[tuple[str, str]]) -> bool:
    """Whether the arrows lead from one room to the other."""
    seen, waiting = set(), [start]
    while waiting:
        room = waiting.pop()
        if room == goal:
            return True
        if room not in seen:
            seen.add(room)
            waiting += [b for a, b in arrows if a == room]
    return False


def _lines(path: Path) -> int:
    files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.rglob("*.py"))
    return sum(file.read_text("utf-8").count("\n") for file in files)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["stories"]))
