"""A terminal's screen, as `tmux capture-pane -e -p` tells it, as an SVG picture."""

import re
import sys
from html import escape

WIDTH, HEIGHT, MARGIN = 8.4, 18, 14
INK, PAPER = "#d6deeb", "#0f1720"
COLOURS = ["#5c6773", "#ff6b68", "#7fd962", "#ffb454", "#59c2ff", "#d2a6ff", "#95e6cb", "#ffffff"]


def style(codes, now):
    """What the numbers of an escape sequence make of the present style."""
    now = dict(now)
    for code in codes or [0]:
        if code == 0:
            now = {}
        elif code == 1:
            now["bold"] = True
        elif code == 2:
            now["dim"] = True
        elif code == 22:
            now.pop("bold", None)
            now.pop("dim", None)
        elif 30 <= code <= 37:
            now["ink"] = COLOURS[code - 30]
        elif 90 <= code <= 97:
            now["ink"] = COLOURS[code - 90]
        elif code == 39:
            now.pop("ink", None)
    return now


def runs(line, now):
    """The parts of a line, each with its style; and the style at its end."""
    found = []
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b["):
            now = style([int(code or 0) for code in part[2:-1].split(";")], now)
        elif part:
            found.append((part, now))
    return found, now


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    parsed, now = [], {}
    for line in lines:
        found, now = runs(line, now)
        parsed.append(found)
    columns = max(sum(len(text) for text, _ in line) for line in parsed)
    width, height = columns * WIDTH + 2 * MARGIN, len(lines) * HEIGHT + 2 * MARGIN
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">')
    print("<title>tripline demo in a terminal</title>")
    print(f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>')
    print(f'<g font-family="ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" fill="{INK}">')
    for row, line in enumerate(parsed):
        column = 0
        for text, look in line:
            if text.strip():
                x, y = MARGIN + column * WIDTH, MARGIN + row * HEIGHT + 13
                attributes = f' x="{x:.1f}" y="{y}" textLength="{len(text) * WIDTH:.1f}" lengthAdjust="spacingAndGlyphs"'
                if "ink" in look:
                    attributes += f' fill="{look["ink"]}"'
                if look.get("bold"):
                    attributes += ' font-weight="bold"'
                if look.get("dim"):
                    attributes += ' opacity="0.6"'
                print(f'<text xml:space="preserve"{attributes}>{escape(text)}</text>')
            column += len(text)
    print("</g>\n</svg>")


main()
