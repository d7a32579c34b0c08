"""Which pictures a data set consists of, and their classes: folders and CSV files.

Nothing is opened here but the CSV; that each file can be read shows later.
"""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from edgese.bounds import LISTING_BYTES, check_size, opened, shortened
from edgese.data.classes import ClassNames
from edgese.data.pictures import SUFFIXES
from edgese.errors import ConfigError, InputError
from edgese.records.data import DataSet, Picture

_LAYOUTS: Final = (
    "Labelled pictures are a folder with one folder a class, or a CSV file with the columns file "
    "and label."
)


def labelled(source: Path, names: ClassNames, split: str = "") -> DataSet:
    """The pictures of class folders or of a CSV file, each with the index of its class.

    Class folders are recognised by the names of the model's classes, by number, or, where no name
    fits and there are as many folders as classes, by their sorted order (as torchvision's
    ImageFolder has it). A CSV has the columns ``file``, relative to the CSV's folder, and
    ``label``, a number or a name.

    Args:
        names: the classes of the model.
        split: of a CSV with a column ``split``, only the rows with this value.

    Raises:
        InputError: nothing there, no picture in it, or a row or folder that fits no class; the
            folder or the row's number is told.
        ConfigError: a split of something that is no CSV.
    """
    if _is_csv(source, split):
        return _csv(source, split, names)
    return _class_folders(source, names)


def unlabelled(source: Path, split: str = "") -> tuple[Path, ...]:
    """All pictures of a folder, at any depth, or of a CSV file, without regard to classes.

    Args:
        split: of a CSV with a column ``split``, only the rows with this value.

    Raises:
        InputError: nothing there, or no picture in it.
        ConfigError: a split of something that is no CSV.
    """
    if _is_csv(source, split):
        return tuple(source.parent / row["file"] for _, row in _rows(source, split, ("file",)))
    files = tuple(source / file for file in _pictures_below(source))
    if not files:
        raise _no_picture(source)
    return files


def limited(data: DataSet, limit: int) -> DataSet:
    """At most ``limit`` of the pictures, evenly spread over the list.

    Lists are often sorted by class; the first ones alone would be of few classes.

    Raises:
        ConfigError: ``limit`` is below 1.
    """
    if limit < 1:
        raise ConfigError(f"A limit of {limit} pictures was asked for.", hint="Give 1 or more.")
    n = len(data.pictures)
    if limit >= n:
        return data
    taken = tuple(data.pictures[i * n // limit] for i in range(limit))
    return msgspec.structs.replace(data, pictures=taken)


def name_in(source: Path, file: Path) -> str:
    r"""How a record calls an image: relative to the folder or the CSV's, or whole if it lies apart.

    A name that is not UTF-8 has its other bytes written as numbers: records are UTF-8.
    """
    root = source if source.is_dir() else source.parent
    inside = file.is_relative_to(root)
    return recorded((file.relative_to(root) if inside else file.absolute()).as_posix())


def recorded(text: str) -> str:
    """Text with a file's name in it as UTF-8, in which a name need not be."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _is_csv(source: Path, split: str) -> bool:
    if source.is_dir():
        if split:
            raise ConfigError(
                f"The split {split!r} of the folder {source} was asked for.",
                hint="Splits are a column of a CSV file; of folders, name the one to use.",
            )
        return False
    if source.is_file() and source.suffix.lower() == ".csv":
        return True
    found = "is a file, but no CSV" if source.exists() else "does not exist"
    raise InputError(f"The data set {source} {found}.", hint=_LAYOUTS)


def _class_folders(source: Path, names: ClassNames) -> DataSet:
    _, inner, files = next(os.walk(source, onerror=_refuse))
    folders = sorted(name for name in inner if not _hidden(name))
    loose = [name for name in files if _is_picture(name)]
    csvs = sorted(name for name in files if name.lower().endswith(".csv"))
    if not folders and not loose:
        raise _no_picture(source)
    if loose:
        raise InputError(
            f"{source} holds pictures that lie in no class folder, such as {min(loose)}.",
            hint=_LAYOUTS,
        )
    by, indices = names.of_folders(folders)
    known = {folder: index for folder, index in indices.items() if index is not None}
    if wrong := [folder for folder in folders if folder not in known]:
        hint = f"Did you mean {source / csvs[0]}? " if csvs else ""
        raise InputError(
            f"{len(wrong)} of the {len(folders)} folders in {source} fit no class of the model: "
            f"{', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}.",
            hint=f"{hint}Name each folder after its class, or by its number from 0 to "
            f"{names.classes - 1}, or have one for each of the {names.classes} classes.",
        )
    below = {folder: tuple(_pictures_below(source / folder)) for folder in folders}
    if not any(below.values()):
        raise _no_picture(source)
    # An accuracy without a class that is hard would be too high, as without its images.
    if empty := [folder for folder in folders if not below[folder]]:
        raise InputError(
            f"{len(empty)} of the {len(folders)} class folders in {source} have no image: "
            f"{', '.join(empty[:5])}{' ...' if len(empty) > 5 else ''}.",
            hint=f"Put images into them (files ending in {', '.join(SUFFIXES)}), or remove the "
            "folders.",
        )
    pictures = tuple(
        Picture(file=f"{folder}/{file}", label=known[folder])
        for folder in folders
        for file in below[folder]
    )
    return DataSet(source=str(source), root=str(source), pictures=pictures, labelled_by=by)


def _csv(source: Path, split: str, names: ClassNames) -> DataSet:
    rows = _rows(source, split, ("file", "label"))
    by, indices = names.of_values(sorted({row["label"] for _, row in rows}))
    pictures = []
    for line, row in rows:
        label = indices[row["label"]]
        if label is None:
            raise InputError(
                f"Line {line} of {source} has the label {shortened([row['label']])!r}, which is no "
                "class of the model.",
                hint=f"Give a number from 0 to {names.classes - 1} or the name of a class.",
            )
        pictures.append(Picture(file=row["file"], label=label))
    return DataSet(
        source=str(source),
        root=str(source.parent),
        pictures=tuple(pictures),
        labelled_by=by,
        split=split,
    )


def _rows(source: Path, split: str, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Rows of the split with the numbers of their lines; all files that they name are there."""
    rows = _cells(source, (*columns, "split") if split else columns)
    if split:
        splits = sorted({row["split"] for _, row in rows})
        rows = [(line, row) for line, row in rows if row["split"] == split]
        if not rows:
            raise InputError(
                f"{source} has no row of the split {split!r}.", hint=f"It has: {shortened(splits)}."
            )
    if not rows:
        raise InputError(f"{source} has no rows.", hint="List at least one picture in it.")
    _check_files(source, rows)
    return rows


def _check_files(source: Path, rows: list[tuple[int, dict[str, str]]]) -> None:
    seen: dict[tuple[int, int], int] = {}
    for line, row in rows:
        file = row["file"]
        path = source.parent / file
        if not os.path.isfile(path):  # noqa: PTH113  # Path's raises on long names
            raise InputError(
                f"Line {line} of {source} names {file!r}, which is not there.",
                hint=f"Files are looked for relative to {source.parent}.",
            )
        # The file itself and not its spelling: a.jpg, ./a.jpg and a link to it are one image.
        status = path.stat()
        identity = status.st_dev, status.st_ino
        if identity in seen:
            raise InputError(
                f"Line {line} of {source} names {file!r}, the image of line {seen[identity]}.",
                hint="Take one of the two out.",
            )
        seen[identity] = line


def _cells(source: Path, needed: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """The needed cells of all rows, stripped, with the numbers of their lines."""
    try:
        with opened(source, "CSV file") as raw:
            check_size(raw, source, "CSV file", LISTING_BYTES)
            # Spreadsheet programs start their CSV with a byte order mark; utf-8-sig takes it off.
            file = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
            if twice := [name for name in needed if reader.fieldnames.count(name) > 1]:
                raise InputError(
                    f"{source} has the column {twice[0]!r} twice.", hint="Take one of them out."
                )
            if missing := [column for column in needed if column not in reader.fieldnames]:
                raise InputError(
                    f"{source} has no column {' and no column '.join(map(repr, missing))}.",
                    hint=f"Its first line names: {shortened(reader.fieldnames) or 'nothing'}.",
                )
            rows = []
            for row in reader:
                if short := [column for column in needed if not row[column]]:
                    raise InputError(
                        f"Line {reader.line_num} of {source} has no {' and no '.join(short)}.",
                        hint="Fill the cell, or take the line out.",
                    )
                rows.append((reader.line_num, {name: row[name].strip() for name in needed}))
            return rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{source} is not a readable CSV file: {error}", hint=_LAYOUTS) from error
    except OSError as error:
        raise InputError(
            f"{source} cannot be read: {error.strerror}", hint="Make it readable."
        ) from error


def _pictures_below(folder: Path) -> Iterator[str]:
    """Pictures at any depth, sorted, relative to ``folder``."""
    for place, inner, files in os.walk(folder, onerror=_refuse):
        # Sorting in place decides the order of the walk.
        inner[:] = sorted(name for name in inner if not _hidden(name))
        relative = Path(place).relative_to(folder)
        yield from ((relative / file).as_posix() for file in sorted(files) if _is_picture(file))


def _refuse(error: OSError) -> None:
    # os.walk would pass over the folder, and its pictures would be missing without a word.
    raise InputError(
        f"The folder {error.filename} cannot be read: {error.strerror}.", hint="Make it readable."
    ) from error


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _hidden(name)


def _hidden(name: str) -> bool:
    # macOS leaves ._photo.jpg beside photo.jpg on foreign disks; it is no picture.
    return name.startswith(".")


def _no_picture(source: Path) -> InputError:
    return InputError(
        f"There is no picture in {source}; files ending in {', '.join(SUFFIXES)} were looked for, "
        "at any depth.",
        hint=_LAYOUTS,
    )
