"""The arguments of stages.import_dataset."""

import argparse
import re
from pathlib import Path

from stages.importing.boxes import CHOICES


def parse(description: str, words: list[str] | None = None) -> argparse.Namespace:
    """The command line's arguments; a wrong one ends the process with status 2 and how to write it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    forms = parser.add_argument_group("annotations, one form").add_mutually_exclusive_group(required=True)
    forms.add_argument("--coco", type=Path, nargs="+", metavar="JSON", help="COCO key points")
    forms.add_argument("--via", type=Path, nargs="+", metavar="JSON", help="VGG Image Annotator 2")
    forms.add_argument("--pts", type=Path, metavar="DIR", help="a folder of .pts files beside their images")
    add = parser.add_argument
    add("--name", required=True, help="of the dataset: letters, digits, '.', '_' and '-'")
    add("--images", type=Path, metavar="DIR", help="the folder of the images; default: that of the annotation file")
    add("--test-coco", type=Path, nargs="+", metavar="JSON", help="the test faces, where they have a file of their own")
    add("--test-via", type=Path, nargs="+", metavar="JSON", help="the same")
    add("--test-share", type=_share, default=0.2, help="of the images, for the test, without test files; default 0.2")
    add("--split-by-folder", action="store_true", help="by folders of the images named train, val and test")
    add("--group", type=_pattern, metavar="PATTERN", help="a regular expression whose first group finds the person or "
        "video in an image's name, as in '^(\\d+)_': its faces are all on one side of every split")  # fmt: skip
    add("--scheme", help="a file of params/schemes that has these landmarks, such as 300w")
    add("--eyes", type=_pair, metavar="36,45", help="the outer corners of the eyes, counted from 0")
    add("--normaliser", choices=["inter_ocular", "inter_pupil", "box_side"], help="what errors are divided by")
    add("--boxes", choices=CHOICES, help="the face boxes; default: the annotations', if they are those of faces")
    add("--origin", type=_origin, help="what the annotations call the centre of the first pixel: 1 if "
        "they count from 1, as most .pts files do; 0.5 if they measure from the image's corner; default 0")  # fmt: skip
    add("--hidden", choices=["none", "negative"], default="none", help="negative: the signs in .pts files say so")
    add("--category", help="the COCO category, where several have key points")
    add("--title", help="of the data in the report; default: the name")
    add("--licence", default="not stated", help="of the data, as the report states it")
    add("--copy", action="store_true", help="copy the images instead of linking to them")
    add("--replace", action="store_true", help="overwrite an earlier import of that name")
    add("--yes", action="store_true", help="do not ask for approval")
    arguments = parser.parse_args(words)
    if (arguments.test_coco and not arguments.coco) or (arguments.test_via and not arguments.via):
        parser.error("test files are of the same form as the training files")
    if arguments.split_by_folder and (arguments.test_coco or arguments.test_via):
        parser.error("--split-by-folder is for data without test files")
    if arguments.eyes and arguments.scheme:
        parser.error("--eyes is for a new scheme, and --scheme names one")
    return arguments


def _share(text: str) -> float:
    if not 0 < (share := float(text)) < 1:
        raise argparse.ArgumentTypeError("between 0 and 1, such as 0.2")
    return share


def _origin(text: str) -> float:
    if not abs(origin := float(text)) <= 2:
        raise argparse.ArgumentTypeError("between -2 and 2, such as 1")
    return origin


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise argparse.ArgumentTypeError(f"it is no regular expression ({error})") from None
    if not groups:
        raise argparse.ArgumentTypeError("it has no group in parentheses, which is to find the person or video")
    return text


def _pair(text: str) -> list[int]:
    pair = [int(word) for word in text.split(",")]
    if len(set(pair)) != 2 or len(pair) != 2:
        raise argparse.ArgumentTypeError("two different landmarks, such as 36,45")
    return pair
