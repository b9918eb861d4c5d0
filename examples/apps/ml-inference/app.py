"""Tells languages apart by their letter groups: a small model, really trained, of the standard library.

Stands for any model that is slow to load and quick to use.
"""

import math
from collections import Counter

TEXTS = {
    "en": """the quick brown fox jumps over the lazy dog and then it goes home because there is nothing
        else to do with this day which was a good one for the people who were there""",
    "de": """der schnelle braune fuchs springt über den faulen hund und dann geht er nach hause weil es
        nichts anderes zu tun gibt an diesem tag der ein guter war für die leute die da waren""",
    "fr": """le rapide renard brun saute par-dessus le chien paresseux et puis il rentre à la maison car
        il n'y a rien d'autre à faire de cette journée qui fut bonne pour les gens qui étaient là""",
    "es": """el rápido zorro marrón salta sobre el perro perezoso y luego se va a casa porque no hay nada
        más que hacer con este día que fue bueno para la gente que estaba allí""",
}


def groups(text):
    """The letter groups of a text, three letters each."""
    padded = f"  {' '.join(text.lower().split())}  "
    return [padded[at : at + 3] for at in range(len(padded) - 2)]


class App:
    def setup(self):
        self.model = None

    def run(self, input):
        action = input.get("action")
        if action == "load_model":
            return self._load(input["model"])
        if action == "predict":
            return self._predict(input["data"])
        raise ValueError(f"unknown action {action!r}: use 'load_model' or 'predict'")

    def _load(self, name):
        counts = {language: Counter(groups(text)) for language, text in TEXTS.items()}
        known = set().union(*counts.values())
        self.model = {
            language: {group: math.log((count[group] + 1) / (count.total() + len(known))) for group in known}
            for language, count in counts.items()
        }
        return {"model": name, "parameters": sum(map(len, self.model.values()))}

    def _predict(self, text):
        if self.model is None:
            raise RuntimeError("no model is loaded: begin with the action 'load_model'")
        scores = {
            language: sum(weights.get(group, -8.0) for group in groups(text))
            for language, weights in self.model.items()
        }
        return {"language": max(scores, key=scores.get), "scores": scores}
