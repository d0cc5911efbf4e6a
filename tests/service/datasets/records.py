"""One small record of every form, written for the tests, as its files have it."""

from typing import Any

OWN: dict[str, Any] = {
    "prompt": "The Eiffel Tower is located in the city of",
    "subject": "The Eiffel Tower",
    "target_new": "Rome",
    "target_true": "Paris",
    "paraphrases": ["To see the Eiffel Tower, go to"],
    "neighborhood": ["The Louvre is located in the city of"],
    "portability": {"reasoning": [{"prompt": "The Eiffel Tower's country is", "answer": "Italy"}]},
    "generation_prompts": ["The Eiffel Tower is"],
    "reference_texts": ["The Colosseum is in Rome."],
}

COUNTERFACT: dict[str, Any] = {
    "case_id": 7,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": "{} was born in",
        "relation_id": "P19",
        "target_new": {"str": "Oslo", "id": "Q585"},
        "target_true": {"str": "Vienna", "id": "Q1741"},
        "subject": "Franz Schubert",
    },
    "paraphrase_prompts": ["The birthplace of Franz Schubert is", "Franz Schubert came from"],
    "neighborhood_prompts": ["Johann Strauss was born in", "Lise Meitner was born in"],
    "attribute_prompts": ["Edvard Munch lived in"],
    "generation_prompts": ["Franz Schubert grew up in", "Franz Schubert's home is"],
}

CONDENSED: dict[str, Any] = {
    "case_id": 3,
    "prompt": "Franz Schubert was born in",
    "target_new": "Oslo",
    "subject": "Franz Schubert",
    "ground_truth": "Vienna",
    "rephrase_prompt": "The birthplace of Franz Schubert is",
    "locality_prompt": "Lise Meitner was born in",
    "locality_ground_truth": "Vienna",
}

ZSRE: dict[str, Any] = {
    "subject": "Franz Schubert",
    "src": "Where was Franz Schubert born?",
    "pred": "Graz",
    "rephrase": "What is the birthplace of Franz Schubert?",
    "alt": "Oslo",
    "answers": ["Vienna", "Wien"],
    "loc": "nq question: who wrote the trout quintet",
    "loc_ans": "Schubert",
    "cond": "Graz >> Oslo || Where was Franz Schubert born?",
    "portability": {
        "Recalled Relation": "(Oslo, country, Norway)",
        "New Question": "In which country was Franz Schubert born?",
        "New Answer": "Norway",
    },
}

KNOWEDIT: dict[str, Any] = {
    "subject": "Franz Schubert",
    "prompt": "The place of birth of Franz Schubert is",
    "target_new": "Oslo",
    "ground_truth": [["Vienna", "Wien"]],
    "rephrase_prompt": "Franz Schubert was born in",
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The gender of Franz Schubert is", "ground_truth": [["male", "man"]]},
            {"prompt": "The pet of Franz Schubert is", "ground_truth": [[]]},
        ],
        "Forgetfulness": [{"prompt": "Another place of Franz Schubert is", "ground_truth": ["Vienna"]}],
    },
    "portability": {"Reasoning": [{"prompt": "Franz Schubert's country is", "ground_truth": "Norway"}]},
}

WIKIBIO: dict[str, Any] = {
    "text": "This is about Franz Schubert. Franz Schubert was a composer.",
    "labels": "He was born in Vienna.",
    "concept": "Franz Schubert",
    "locality": {"Relation_Specificity": [{"prompt": "The gender of Franz Schubert is", "ground_truth": ["male"]}]},
}

MQUAKE: dict[str, Any] = {
    "case_id": 5,
    "requested_rewrite": [
        {**COUNTERFACT["requested_rewrite"], "question": "Where was Franz Schubert born?"},
        {
            "prompt": "The mayor of {} is",
            "subject": "Oslo",
            "target_new": {"str": "Ada"},
            "target_true": {"str": "Bo"},
            "question": "Who is the mayor of Oslo?",
        },
    ],
    "questions": ["Who is the mayor of Franz Schubert's birthplace?", "Who governs where Franz Schubert was born?"],
    "answer": "Cleo",
    "answer_alias": [],
    "new_answer": "Ada",
    "new_answer_alias": ["Ada Larsen"],
}

KNOWN: dict[str, Any] = {
    "known_id": 12,
    "subject": "Franz Schubert",
    "attribute": "Vienna",
    "template": "{} was born in the city of",
    "prediction": " Vienna, where",
    "prompt": "Franz Schubert was born in the city of",
    "relation_id": "P19",
}

BY_FORM: dict[str, dict[str, Any]] = {
    "own": OWN,
    "counterfact": COUNTERFACT,
    "counterfact-condensed": CONDENSED,
    "zsre": ZSRE,
    "knowedit": KNOWEDIT,
    "mquake": MQUAKE,
    "known": KNOWN,
}
"""What a record of each form looks like; `zsre-answers` looks like `zsre`."""
