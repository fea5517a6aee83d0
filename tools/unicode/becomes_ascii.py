#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Code points that may be ASCII, or nothing, for whoever folds a domain (NFKC and case, as UTS 46 does), as ranges.

Printed, these are the table of src/smtp/becomes_ascii.h. With a file as its argument, it is compared with that table:
status 1 tells that the two differ in what this Python's Unicode knows."""

import re
import sys
import unicodedata

# Default_Ignorable_Code_Point, which Python does not tell: they vanish.
IGNORABLE = [(0xad, 0xad), (0x34f, 0x34f), (0x61c, 0x61c), (0x115f, 0x1160), (0x17b4, 0x17b5), (0x180b, 0x180f),
             (0x200b, 0x200f), (0x202a, 0x202e), (0x2060, 0x206f), (0x3164, 0x3164), (0xfe00, 0xfe0f), (0xfeff, 0xfeff),
             (0xffa0, 0xffa0), (0xfff0, 0xfff8), (0x1bca0, 0x1bca3), (0x1d173, 0x1d17a), (0xe0000, 0xe0fff)]
LATER = [(0x1ccd6, 0x1ccf9)]  # Unicode 16: outlined letters and digits
FULL_STOPS = "\u3002\uff0e\uff61"  # RFC 3490 3.1: these separate labels, too


def among(code, ranges):
    return any(first <= code <= last for first, last in ranges)


def folded(text):
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def becomes_ascii(code):
    if among(code, IGNORABLE) or among(code, LATER) or chr(code) in FULL_STOPS:
        return True
    return all(ord(c) < 0x80 or among(ord(c), IGNORABLE) or c in FULL_STOPS for c in folded(chr(code)))


def ranges():
    out = []
    for code in range(0x80, 0x110000):
        if 0xd800 <= code <= 0xdfff or not becomes_ascii(code):
            continue
        if out and out[-1][1] == code - 1:
            out[-1][1] = code
        else:
            out.append([code, code])
    return out


def differences(table):
    for code in range(0x80, 0x110000):
        known = unicodedata.category(chr(code)) != "Cn" or among(code, IGNORABLE) or among(code, LATER)
        if known and not 0xd800 <= code <= 0xdfff and becomes_ascii(code) != among(code, table):
            yield code


def main():
    if len(sys.argv) == 1:
        print("\n".join(f"{{{first:#x}, {last:#x}}}," for first, last in ranges()))
        return 0
    with open(sys.argv[1], encoding="ascii") as source:
        table = [(int(first, 16), int(last, 16))
                 for first, last in re.findall(r"\{(0x[0-9a-f]+), (0x[0-9a-f]+)\}", source.read())]
    wrong = list(differences(table))
    for code in wrong:
        print(f"U+{code:04X} {unicodedata.name(chr(code), '')}")
    return 1 if wrong or not table or table != sorted(table) else 0


if __name__ == "__main__":
    sys.exit(main())
