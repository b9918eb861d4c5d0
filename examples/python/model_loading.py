"""Load a model once, use it many times.

python examples/python/model_loading.py

Needs the app's packages: pip install 'warmd[predict]'
"""

import itertools
import tempfile
from pathlib import Path

import joblib
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import warmd

PARTS = {
    "en": (
        ["the dog", "my sister", "the old man", "a teacher", "our neighbour", "the girl next door"],
        ["sleeps", "works", "is waiting for us", "reads a book", "has gone", "would like to stay"],
        ["at home", "because of the rain", "with the children", "since the morning", "while you are away"],
    ),
    "de": (
        ["der hund", "meine schwester", "der alte mann", "eine lehrerin", "unser nachbar", "das mädchen"],
        ["schläft", "arbeitet", "wartet auf uns", "liest ein buch", "geht", "möchte gern bleiben"],
        ["zu hause", "weil es regnet", "mit den kindern", "seit dem morgen", "während ihr weg seid"],
    ),
    "fr": (
        ["le chien", "ma sœur", "le vieil homme", "une professeure", "notre voisin", "la fille d'à côté"],
        ["dort", "travaille", "nous attend", "lit un livre", "est rentré", "voudrait bien rester"],
        ["à la maison", "parce qu'il pleut", "avec les enfants", "depuis ce matin", "quand vous partez"],
    ),
    "es": (
        ["el perro", "mi hermana", "el viejo", "una profesora", "nuestro vecino", "la chica de al lado"],
        ["duerme", "trabaja", "nos está esperando", "lee un libro", "se ha ido", "quisiera quedarse"],
        ["en casa", "porque está lloviendo", "con los niños", "desde la mañana", "mientras estáis fuera"],
    ),
}
BATCH = [
    "they have gone home because of the rain",
    "wir gehen nach hause, weil es regnet",
    "il est rentré à la maison parce qu'il pleut",
    "se van a casa porque está lloviendo",
]


def train(path: Path) -> None:
    """Tells languages apart by their letter groups, from 720 sentences; takes a second."""
    sentences = [
        (" ".join(words), language)
        for language, parts in PARTS.items()
        for words in itertools.product(*parts)
    ]
    model = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4)), LogisticRegression(C=50))
    joblib.dump(model.fit(*zip(*sentences, strict=True)), path)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, warmd.Client() as client:
        train(Path(folder, "large-model-v2.joblib"))

        result = client.run(
            {
                "app": "ml-inference",
                "input": {"action": "load_model", "model": "large-model-v2"},
                "session": "new",
                "session_timeout": 600,
                # Where models are looked up; what joblib wrote can run code, and this we wrote ourselves.
                "setup": {"models": folder, "trusted": True},
            }
        )
        session_id = result.session_id
        print(f"loaded {result.output['model']} in {result.timing.total:.3f} s (session {session_id})")

        for item in BATCH:
            result = client.run(
                {
                    "app": "ml-inference",
                    "input": {"action": "predict", "data": item},
                    "session": session_id,
                }
            )
            (language,) = result.output["predictions"]
            print(f"{language}  {item}  ({result.timing.total * 1000:.1f} ms)")

        client.sessions.end(session_id)


if __name__ == "__main__":
    main()
