#!/usr/bin/env python3
"""Small children's stories from a seeded grammar, as training text.

    python3 stories.py --seed N --count N           stories, a line "<|end|>" after each
    python3 stories.py --seed N --count N --jsonl   one {"text": ...} a line

One seed always gives the same stories. No data is read: words.py holds the
words, plots.py the plots, and this file expands them. In a template

    [a|b|c]     is one of the choices, which may be nested or empty;
    {word}      is a slot: an entry of the list "word", drawn at its first use and
                the same from then on, so what is lost is also what is found;
    {word2}     is another draw from that list, never a word the story already has;
    {word.form} is another form of the drawn word, {hero.his} or {skill.doing};
    {a word}, {s word}, {some word}  put an article before it or make it plural;
    {Word}      begins with a capital.

{hero}, {friend} and {elder} are the cast; {he}, {his}, {him} mean the hero.
"""

import argparse
import json
import random
import re

from plots import PARTS, PLOTS
from words import ANIMALS, ANIMAL_BOYS, ANIMAL_GIRLS, BOYS, ELDERS_HE, ELDERS_SHE, GIRLS, LISTS

END_MARKER = "<|end|>"

LISTS = {**LISTS, **PARTS}
INTROS = {"hero": ["{a size} {hero.kind} [named|called] {hero}",
                   "{a trait} [little|] {hero.kind} named {hero}"],
          "friend": ["{a size2} {friend.kind} [named|called] {friend}",
                     "{a trait2} [little|] {friend.kind} named {friend}"]}
PRONOUNS = {"she": {"he": "she", "his": "her", "him": "her"},
            "he": {"he": "he", "his": "his", "him": "him"}}

CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(?:(a|s|some) )?([A-Za-z]+)(\d?)(?:\.(\w+))?\}")


def plural(noun):
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|ch|sh)$", noun) else "s")


class Story:
    def __init__(self, rng):
        self.rng = rng
        self.slots = {}      # slot -> its forms, "" being the word itself
        self.add_cast()

    def add_cast(self):
        for role in ("hero", "friend"):
            she, is_animal = self.rng.random() < 0.5, self.rng.random() < 0.5
            if is_animal:
                names, kind = ANIMAL_GIRLS if she else ANIMAL_BOYS, self.unused(ANIMALS)
            else:
                names, kind = (GIRLS, "girl") if she else (BOYS, "boy")
            self.slots[role] = {"": self.unused(names), "kind": kind,
                                "intro": self.rng.choice(INTROS[role]),
                                **PRONOUNS["she" if she else "he"]}
        she = self.rng.random() < 0.5
        self.slots["elder"] = {"": self.rng.choice(ELDERS_SHE if she else ELDERS_HE),
                               **PRONOUNS["she" if she else "he"]}

    def unused(self, entries):
        taken = [form for forms in self.slots.values() for form in forms.values()]
        return self.rng.choice([e for e in entries
                                if (e[""] if isinstance(e, dict) else e) not in taken])

    def slot(self, match):
        article, name, number, form = match.groups()
        key = name.lower()
        if key in ("he", "his", "him"):
            key, form = "hero", key
        forms = self.slots.get(key + number)
        if forms is None:
            entry = self.unused(LISTS[key])
            forms = entry if isinstance(entry, dict) else {"": self.expand(entry)}
            self.slots[key + number] = forms
        text = self.expand(forms[form or ""])
        if article == "a":
            text = ("an " if text[0] in "aeiou" else "a ") + text
        elif article:
            text = ("some " if article == "some" else "") + plural(text)
        return text[0].upper() + text[1:] if name[0].isupper() else text

    def expand(self, template):
        while CHOICE.search(template):
            template = CHOICE.sub(lambda m: self.rng.choice(m[1].split("|")), template)
        return SLOT.sub(self.slot, template)

    def text(self):
        plot = self.rng.choice(PLOTS)
        paragraphs = [" ".join(self.expand(p).split()) for p in plot.strip().split("\n\n")]
        return "\n\n".join(paragraphs)


def stories(seed, count):
    rng = random.Random(seed)
    for _ in range(count):
        yield Story(rng).text()


def main():
    args = argparse.ArgumentParser(description="Print generated children's stories.")
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--count", type=int, default=10)
    args.add_argument("--jsonl", action="store_true", help='print JSON lines {"text": ...}')
    args = args.parse_args()
    for text in stories(args.seed, args.count):
        print(json.dumps({"text": text}) if args.jsonl else f"{text}\n{END_MARKER}\n")


if __name__ == "__main__":
    main()
