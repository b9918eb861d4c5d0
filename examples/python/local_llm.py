"""Text from a language model in a local folder, streamed, and how fast it is once it is warm.

pip install 'warmd[llm]'
python examples/python/local_llm.py /models/Qwen2.5-0.5B-Instruct
"""

import sys

import warmd

PROMPTS = ["The sea is", "The sea is deep, and", "A llama is"]


def main(model: str, max_new_tokens: int = 48) -> None:
    with warmd.Client() as client, client.session("llm", setup={"model": model}) as llm:
        info = llm.call("info").output
        print(f"{info['architecture']}, {info['parameters'] / 1e6:.0f} million parameters, {info['device']}")
        for prompt in PROMPTS:
            print(prompt, end="", flush=True)
            for part in llm.stream("generate", {"prompt": prompt, "max_new_tokens": max_new_tokens}):
                print(part.get("text", ""), end="", flush=True)
            print(f"\n  (first token after {part['first_token_seconds'] * 1000:.0f} ms)")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/python/local_llm.py FOLDER")
    main(sys.argv[1])
